"""Suspects that are somebody's Python: callables, and models of MLflow. To open one runs its code."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mwm.storage.redaction import redact
from mwm.storage.tracking_uri import avoid_proxies, check_database, set_mlflow_defaults
from mwm.verification.suspects.in_process import InProcessSuspect, Shape, as_open_error, only_batch, probed
from mwm.verification.suspects.presentation import InputFormat


def open_callable(address: str, *, shape: Shape, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """The function that `module:function` names; ValueError in one line if it cannot be imported."""
    del shape
    module, _, name = address.partition(":")
    with as_open_error(f"{address}: cannot be imported"):
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{address}: is a {type(found).__name__}, not a function of images")
    return InProcessSuspect(address, "callable", "", classes, found, presentation=presentation)


def open_mlflow_model(
    address: str, *, shape: Shape, classes: int, presentation: InputFormat, tracking_uri: str
) -> InProcessSuspect:
    """A model of MLflow in a folder, or from the store at `tracking_uri`; ValueError in one line if there is none.

    It gets what its signature asks for: images alone or under a name, so many at a time as it takes.
    """
    set_mlflow_defaults()
    local = Path(address).is_dir()
    if not local:
        avoid_proxies(tracking_uri)
    with as_open_error(f"{address}: cannot be loaded" + f" from {redact(tracking_uri)}" * (not local)):
        from mlflow import pyfunc

        with _tracking_uri(tracking_uri):
            if not local:
                check_database(tracking_uri)
            model = pyfunc.load_model(str(Path(address).absolute()) if local else address, suppress_warnings=True)
        inputs = model.metadata.get_input_schema()
        example = model.input_example
    tensors = inputs.inputs if inputs is not None and inputs.is_tensor_spec() else []
    batch = only_batch(address, tensors[0].shape, presentation.shape(shape)) if len(tensors) == 1 else None
    name = tensors[0].name if len(tensors) == 1 else None

    def ask(pixels: Any) -> Any:
        return model.predict({name: pixels} if name else pixels)

    suspect = InProcessSuspect(address, "mlflow", "", classes, ask, batch, presentation)
    return probed(suspect, shape, _counts(example))


def _counts(example: Any) -> list[int]:
    """How many images an example holds, which may be as many as a model takes at a time."""
    try:
        return [len(example)]
    except TypeError:
        return []


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
