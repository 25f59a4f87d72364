"""Suspects that are somebody's Python: callables, and models of MLflow. To open one runs its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mwm.config.functions import load_function
from mwm.storage.mlflow_models import load_mlflow_model
from mwm.storage.redaction import in_one_line, redact
from mwm.verification.suspects.in_process import InProcessSuspect, Shape, only_batch, probed
from mwm.verification.suspects.presentation import InputFormat


def open_callable(address: str, *, shape: Shape, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """The function that `module:function` names; ValueError in one line if it cannot be imported."""
    del shape
    return InProcessSuspect(address, "callable", "", classes, load_function(address), presentation=presentation)


def open_mlflow_model(
    address: str, *, shape: Shape, classes: int, presentation: InputFormat, tracking_uri: str
) -> InProcessSuspect:
    """A model of MLflow in a folder, or from the store at `tracking_uri`; ValueError in one line if there is none.

    It gets what its signature asks for: images alone or under a name, so many at a time as it takes.
    """
    elsewhere = "" if Path(address).is_dir() else f" from {redact(tracking_uri)}"
    with in_one_line(f"{address}: cannot be loaded{elsewhere}"):
        model = load_mlflow_model(address, tracking_uri, flavor="pyfunc")
    inputs, example = model.metadata.get_input_schema(), model.input_example
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
