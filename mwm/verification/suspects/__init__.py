"""Suspects: whatever can be asked what it sees on an image."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, Unpack

from mwm.storage.redaction import redacted_excerpt
from mwm.verification.suspects import checkpoint, network_files, python_models
from mwm.verification.suspects.endpoints.endpoint import Endpoint
from mwm.verification.suspects.in_process import InProcessSuspect
from mwm.verification.suspects.live import LiveSuspect, open_live
from mwm.verification.suspects.outputs import NoAnswerError, Presentable, Suspect
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat

__all__ = ["NoAnswerError", "Suspect", "SuspectLike", "open_suspect"]

SuspectLike = str | Path | LiveSuspect
"""What can be opened: an address, the path of a file or folder, or a network or function in this process."""

ALLOWED = (
    "a store entry's folder, *.safetensors, *.onnx, *.pt2, *.ts, *.pt, *.pth, http(s)://..., models:/..., runs:/..., "
    "mlflow-artifacts:/... or module:function"
)
SUFFIXES = {
    ".safetensors": "checkpoint",
    ".onnx": "onnx",
    ".pt2": "export",
    ".ts": "torch",
    ".pt": "torch",
    ".pth": "torch",
}
SCHEMES = {
    "http://": "endpoint",
    "https://": "endpoint",
    "models:/": "mlflow",
    "runs:/": "mlflow",
    "mlflow-artifacts:/": "mlflow",
}
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
NETWORKS: dict[str, Callable[..., InProcessSuspect]] = {
    "checkpoint": checkpoint.open_checkpoint,
    "onnx": network_files.open_onnx,
    "export": network_files.open_export,
    "torch": network_files.open_torch,
}
RUNS_CODE = {
    "export": "torch.export files hold pickles, and a pickle can run any code when it is read",
    "torch": "TorchScript is code, and a pickled network can run any when it is read",
    "mlflow": "a model of MLflow is Python code and pickles, which run when it is loaded",
    "callable": "a module runs its code when it is imported",
}
"""Why a form is opened only for those who trust its maker."""


class OpenOptions(TypedDict, total=False):
    """How suspects are opened.

    What can run code is opened with `trust` alone. `timeout` (seconds a request), `retries`, `rate` (requests a second
    at most, repetitions among them; None: no limit) and `protocol` (None: by the address) are for endpoints,
    `tracking_uri` for models of MLflow.
    """

    trust: bool
    timeout: float
    retries: int
    tracking_uri: str | None
    rate: float | None
    protocol: str | None


def open_suspect(
    suspect: SuspectLike,
    *,
    shape: tuple[int, int, int],
    classes: int,
    presentation: InputFormat = UNIT_RANGE,
    **options: Unpack[OpenOptions],
) -> Presentable:
    """Open a suspect, to be asked about images of `shape` (c, h, w) with labels of `classes` classes.

    `presentation` says how images are shown. Raises ValueError, in one line, for what cannot be opened.
    """
    presentation.check(shape[0])
    how: Any = {"classes": classes, "presentation": presentation}
    if not isinstance(suspect, (str, Path)):
        return open_live(suspect, **how)
    address = str(suspect)
    form = _format(address)
    if form in RUNS_CODE:
        if not options.get("trust"):
            anyway = "if you trust whoever made it, add --trust, or trust=True in Python"
            raise ValueError(f"{redacted_excerpt(address)}: {RUNS_CODE[form]}; {anyway}")
        _look_here()
    if form in NETWORKS:
        return NETWORKS[form](address, shape=shape, **how)
    if form == "endpoint":
        limits: Any = {name: options[name] for name in ("timeout", "retries", "rate", "protocol") if name in options}
        return Endpoint(address, **limits, **how)
    if form == "mlflow":
        return python_models.open_mlflow_model(address, tracking_uri=options.get("tracking_uri"), **how)
    return python_models.open_callable(address, **how)


def _format(address: str) -> str:
    """Which form an address names, by its beginning or its end alone; ValueError if it names none."""
    for start, form in SCHEMES.items():
        if address.lower().startswith(start):
            return form
    path = Path(address)
    if path.is_dir():
        return "checkpoint"
    if form := SUFFIXES.get(path.suffix.lower(), ""):
        if not path.is_file():
            raise ValueError(f"{address}: there is no such file")
        return form
    if FUNCTION.fullmatch(address):
        return "callable"
    raise ValueError(f"{redacted_excerpt(address)!r} is no suspect; allowed: {ALLOWED}")


def _look_here() -> None:
    """Let modules and the classes of pickled networks be found in the current folder, now and when they are asked."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
