"""Suspects that are somebody's Python: callables, and models of MLflow. To open one runs its code."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import mkdtemp
from typing import Any

from mwm.storage.redaction import redact
from mwm.storage.tracking_uri import check_database, resolve_tracking_uri, set_mlflow_defaults
from mwm.verification.suspects.identity import address_identity
from mwm.verification.suspects.in_process import InProcessSuspect, as_open_error
from mwm.verification.suspects.presentation import InputFormat


def open_callable(address: str, *, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """The function that `module:function` names; ValueError in one line if it cannot be imported."""
    module, _, name = address.partition(":")
    with as_open_error(f"{address}: cannot be imported"):
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{address}: is a {type(found).__name__}, not a function of images")
    identity = address_identity("callable", address)
    return InProcessSuspect(address, "callable", identity, classes, found, presentation=presentation)


def open_mlflow_model(
    address: str, *, classes: int, presentation: InputFormat, tracking_uri: str | None
) -> InProcessSuspect:
    """A model of MLflow, from the store at `tracking_uri`; ValueError in one line if it cannot be loaded.

    Its files stay here as long as the suspect does: some models read them when they are asked.
    """
    uri = resolve_tracking_uri(tracking_uri)
    set_mlflow_defaults()

    def ask(pixels: Any) -> Any:
        return model.predict(pixels)

    folder = mkdtemp(prefix="mwm-suspect-")
    weakref.finalize(ask, shutil.rmtree, folder, ignore_errors=True)
    with as_open_error(f"{address}: cannot be loaded from {redact(uri)}"), _tracking_uri(uri):
        from mlflow import pyfunc

        check_database(uri)
        model = pyfunc.load_model(address, suppress_warnings=True, dst_path=folder)
    identity = address_identity("mlflow", address, uri)
    return InProcessSuspect(address, "mlflow", identity, classes, ask, presentation=presentation)


@contextmanager
def _tracking_uri(uri: str) -> Iterator[None]:
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
