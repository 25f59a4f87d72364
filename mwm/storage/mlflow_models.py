"""Models of MLflow: loaded from a folder, or from a store of MLflow. To load one runs its code."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mwm.storage.tracking_uri import avoid_proxies, check_database, set_mlflow_defaults

ADDRESSES = ("models:/", "runs:/", "mlflow-artifacts:/")
"""How the address of a model in a store begins."""

MLMODEL = "MLmodel"
"""The file in the folder of a model that says what it is."""


def load_mlflow_model(address: str, uri: str, *, flavor: Literal["pyfunc", "pytorch"]) -> Any:
    """The model in a folder, or at an `address` in the store at `uri`; raises whatever MLflow and the model raise."""
    set_mlflow_defaults()
    local = Path(address).is_dir()
    if not local:
        avoid_proxies(uri)
    with _looking_at(uri):
        if not local:
            check_database(uri)
        how: dict[str, Any] = {"suppress_warnings": True} if flavor == "pyfunc" else {"map_location": "cpu"}
        loader = import_module(f"mlflow.{flavor}")
        return loader.load_model(str(Path(address).absolute()) if local else address, **how)


@contextmanager
def _looking_at(uri: str) -> Iterator[None]:
    """Let MLflow look for models at `uri`, and after that where it did before."""
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    before: Any = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
