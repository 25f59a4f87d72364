"""Suspects: whatever can be asked what it sees on an image."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from mwm.config.functions import FUNCTION
from mwm.config.trust import RUNS_CODE, require_trust
from mwm.storage.mlflow_models import MLMODEL
from mwm.storage.redaction import redacted_excerpt
from mwm.storage.tracking_uri import resolve_tracking_uri
from mwm.verification.suspects.identity import address_identity, files_identity, folder_identity, onnx_identity
from mwm.verification.suspects.outputs import NoAnswerError, Presentable, Suspect
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat

if TYPE_CHECKING:
    from mwm.verification.suspects.live import LiveSuspect

__all__ = ["NoAnswerError", "Suspect", "SuspectLike", "open_suspect"]

SuspectLike: TypeAlias = "str | Path | LiveSuspect"
"""What can be opened: an address, the path of a file or folder, or a network or function in this process."""

ALLOWED = (
    "a store entry's folder, *.safetensors, *.onnx, *.pt2, *.ts, *.pt, *.pth, http(s)://..., models:/..., runs:/..., "
    "mlflow-artifacts:/..., a folder with an MLmodel file or module:function"
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


class OpenOptions(TypedDict, total=False):
    """How suspects are opened.

    What can run code is opened with `trust` alone; it and ONNX run in a process of their own, which may take
    `memory_limit` GiB (None: half of what there is, 8 at most). `timeout` is seconds for an answer. `retries`, `rate`
    (requests a second at most, repetitions among them; None: no limit) and `protocol` (None: by the address) are for
    endpoints, `tracking_uri` for models of MLflow.
    """

    trust: bool
    timeout: float
    retries: int
    tracking_uri: str | None
    rate: float | None
    memory_limit: float | None
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
        from mwm.verification.suspects.live import open_live

        return open_live(suspect, **how)
    address = str(suspect)
    form = _format(address)
    if form == "checkpoint":
        from mwm.verification.suspects.checkpoint import is_built_by_a_function, open_checkpoint

        if not is_built_by_a_function(address):
            return open_checkpoint(address, shape=shape, **how)
        form = "own"
    if form in RUNS_CODE:
        require_trust(redacted_excerpt(address), form, trust=options.get("trust", False))
    if form == "endpoint":
        from mwm.verification.suspects.endpoints.endpoint import Endpoint

        limits: Any = {name: options[name] for name in ("timeout", "retries", "rate", "protocol") if name in options}
        return Endpoint(address, **limits, **how)
    return _isolated(form, address, options, shape=shape, **how)


def _isolated(form: str, address: str, options: OpenOptions, **how: Any) -> Presentable:
    """A suspect that runs in a process of its own."""
    from mwm.verification.suspects.isolated.parent import Limits, open_isolated

    identify: Callable[[], str] = partial(files_identity, Path(address))
    if form == "onnx":
        identify = partial(onnx_identity, Path(address).absolute())
    elif form == "own":
        from mwm.models.files import weights_file

        identify = partial(files_identity, weights_file(Path(address)))
    elif form == "callable":
        identify = partial(address_identity, form, address)
    elif form == "mlflow":
        how["tracking_uri"] = uri = resolve_tracking_uri(options.get("tracking_uri"))
        identify = partial(address_identity, form, address, uri)
        if Path(address).is_dir():
            identify = partial(folder_identity, Path(address))
    limits = Limits(options.get("timeout"), options.get("memory_limit"))
    return open_isolated(form, address, limits=limits, identify=identify, **how)


def _format(address: str) -> str:
    """Which form an address names, by its beginning or its end alone; ValueError if it names none."""
    for start, form in SCHEMES.items():
        if address.lower().startswith(start):
            return form
    path = Path(address)
    if path.is_dir():
        return "mlflow" if (path / MLMODEL).is_file() else "checkpoint"
    if form := SUFFIXES.get(path.suffix.lower(), ""):
        if not path.is_file():
            raise ValueError(f"{address}: there is no such file")
        return form
    if re.fullmatch(FUNCTION, address):
        return "callable"
    raise ValueError(f"{redacted_excerpt(address)!r} is no suspect; allowed: {ALLOWED}")
