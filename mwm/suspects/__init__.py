"""Suspects: whatever can be asked what it sees on an image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mwm.suspects.answers import Answers, SilentError, short
from mwm.suspects.checkpoint import open_checkpoint

__all__ = ["SilentError", "Suspect", "open_suspect"]

ENDINGS = {
    ".safetensors": "checkpoint",
    ".onnx": "onnx",
    ".pt2": "export",
    ".ts": "torch",
    ".pt": "torch",
    ".pth": "torch",
}
ALLOWED = (
    "a store entry's folder, *.safetensors, *.onnx, *.pt2, *.ts, *.pt, *.pth, http(s)://..., models:/..., runs:/..., "
    "mlflow-artifacts:/... or module:function"
)
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
RUNS_CODE = {
    "export": "torch.export files hold pickles, and to read a pickle can run any code",
    "torch": "TorchScript is code, and to read a pickled network can run any",
    "mlflow": "a model of MLflow is Python code and pickles, which run when it is loaded",
    "callable": "to import a module runs its code",
}
"""Why a form is opened only for those who trust its maker."""


class Suspect(Protocol):
    """Something to ask: `name` is how it may be shown, `access` the form in which it is at hand."""

    @property
    def name(self) -> str:
        """Its address, without passwords."""

    @property
    def access(self) -> str:
        """What it is: checkpoint, onnx, export, torchscript, module, mlflow, callable or endpoint."""

    def __call__(self, images: NDArray[np.uint8]) -> Answers:
        """Labels (int64, n) or scores (float64, n C) of images (uint8, n c h w).

        Raises SilentError if it does not answer or the answers cannot be used.
        """


def open_suspect(
    address: str,
    *,
    shape: tuple[int, int, int],
    classes: int,
    trust: bool = False,
    timeout: float = 30.0,
    retries: int = 5,
    tracking_uri: str | None = None,
) -> Suspect:
    """Open the suspect at `address`, for images of `shape` (c, h, w) and labels of `classes` classes.

    What could run code is opened with `trust` alone. `timeout` (seconds a request) and `retries` are for endpoints,
    `tracking_uri` for models of MLflow. Raises ValueError, in one line, for a mistake of the user's.
    """
    form = _form(address)
    if form in RUNS_CODE and not trust:
        raise ValueError(f"{short(address)}: {RUNS_CODE[form]}; add --trust if you trust whoever made it")
    key: dict[str, Any] = {"classes": classes}
    if form == "checkpoint":
        return open_checkpoint(address, shape=shape, **key)
    from mwm.suspects.foreign import open_callable

    return open_callable(address, **key)


def _form(address: str) -> str:
    path, form = Path(address), ""
    if path.is_dir():
        form = "checkpoint"
    elif form := ENDINGS.get(path.suffix.lower(), ""):
        if not path.is_file():
            raise ValueError(f"{address}: there is no such file")
    elif FUNCTION.fullmatch(address):
        form = "callable"
    else:
        raise ValueError(f"{short(address)!r} is no suspect; allowed: {ALLOWED}")
    return form
