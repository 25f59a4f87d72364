"""What a suspect is, and what it may answer: class indices, or a score for each class."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mwm.storage.redaction import describe_error
from mwm.verification.suspects.names import NAME, NAMES, RANKED, read_names
from mwm.verification.suspects.presentation import InputFormat

NO_ANSWER = -1
"""What stands for the answer to a query that was left open: it matches no label."""

NO_CLASS = -2
"""What stands for an answer that names no class of the key, or none before the others."""

Outputs = NDArray[np.int64 | np.float64]
"""Labels (int64, n) or scores (float64, n C)."""

PLAIN = {"logits": 2, "probabilities": 2, "labels": 1}
"""The names of answers, the most telling first, and their number of axes."""

FORMS = {"labels": np.dtype(np.int64), "scores": np.dtype(np.float64), "names": NAMES, "ranked": RANKED}
"""The forms of answers, and what each of their parts is."""

WHOLE = 2**53
"""Below it every whole number is a float64 of its own."""


class NoAnswerError(OSError):
    """A suspect did not answer, was not reached in all the attempts it was given, or its answers cannot be used.

    `permanent` unless the same question may be answered at another time.
    """

    def __init__(self, what: str, *, permanent: bool = True) -> None:
        super().__init__(what)
        self.permanent = permanent


class Suspect(Protocol):
    """Something to ask, which may be a copy."""

    @property
    def name(self) -> str:
        """Its address, without passwords; of an endpoint without its query, too."""

    @property
    def access(self) -> str:
        """How it is at hand: checkpoint, onnx, export, torchscript, module, mlflow, callable or endpoint."""

    @property
    def identity(self) -> str:
        """64 hex digits that tell it from any other and may be shown: of files their content, else the whole address.

        Passwords, tokens and the store of MLflow are in it, but cannot be read from it.
        """

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Labels (int64, n) or scores (float64, n C) of images (uint8, n c h w).

        Raises NoAnswerError if it does not answer or its answers cannot be used, ValueError if it has other classes.
        """


class Presentable(Suspect, Protocol):
    """A suspect that can be asked in more than one way."""

    @property
    def presentation(self) -> InputFormat:
        """How images are shown to it."""

    def shown(self, presentation: InputFormat) -> Presentable:
        """The same suspect, asked in another way, to find out which is right; no request of it is repeated."""


def parse_outputs(came: Any, *, count: int, classes: int, who: str) -> Outputs:
    """Answers to `count` images as labels (int64, n) or scores (float64, n C), from whatever a suspect has returned.

    Names of classes stay what they are: names (str n), or names with their scores (RANKED n k). A column (n, 1) is a
    list of labels. A label may lie outside 0..C-1: it matches nothing. Of several outputs with names the most telling
    of PLAIN counts. Raises NoAnswerError for what is neither labels nor scores, and ValueError
    for scores of another number of classes.
    """
    needed = f"needed: {count} class indices, or scores ({count}, {classes})"
    try:
        plain = _unwrapped(_plain(_rows(came)))
        named = read_names(plain, classes)
        values = _numbers(plain) if named is None else named
    except (Exception, SystemExit) as error:  # it may be anybody's object
        said = f"answered with a {type(came).__name__} that cannot be read"
        raise NoAnswerError(f"{who}: {said} ({describe_error(error)}); {needed}") from error
    if values is None:
        raise NoAnswerError(f"{who}: answered with a {type(came).__name__} that holds no such numbers; {needed}")
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype != RANKED:
        values = values[:, 0]
    if values.ndim not in (1, 2) or len(values) != count:
        raise NoAnswerError(f"{who}: answered with numbers of shape {values.shape}; {needed}")
    if values.ndim == 1:
        return values if values.dtype.kind == "U" else _labels(values, f"{who}: answered with", needed)
    numbers = values["score"] if values.dtype == RANKED else values
    if np.isnan(numbers).any():
        raise NoAnswerError(f"{who}: answered with NaN; {needed}")
    if values.shape[1] != classes:
        raise ValueError(f"{who}: answers with scores of {values.shape[1]} classes, the key has {classes}")
    return values if values.dtype == RANKED else values.astype(np.float64)


def _unwrapped(came: Any) -> Any:
    """The list or matrix in an answer that is a dict, rows that are dicts, or a data frame split into its parts.

    Columns named 0, 1, 2, ... are put in order; others keep their names.
    """
    while isinstance(came, dict):
        if rows := _split_rows(came):
            return _unwrapped(rows)
        only = list(came) if len(came) == 1 else []
        inner = [key for key in ("predictions", "data", *PLAIN, *only) if key in came]
        if not inner:
            return came
        came = came[inner[0]]
    first = came[0] if isinstance(came, list) and came else None
    if isinstance(first, dict) and first and all(isinstance(row, dict) and row.keys() == first.keys() for row in came):
        if all(str(name).isdecimal() for name in first):
            names = sorted(first, key=lambda name: (len(str(name)), str(name)))
            return [[row[name] for name in names] for row in came]
        if len(first) == 1 and not isinstance(next(iter(first.values())), str):
            return [next(iter(row.values())) for row in came]
    return came


def _split_rows(came: dict[Any, Any]) -> list[dict[Any, Any]]:
    """The rows of a data frame that was split into `columns` and `data`, or into a list for each column; else none."""
    columns, data = came.get("columns"), came.get("data")
    if isinstance(columns, list) and isinstance(data, list):
        return [dict(zip(columns, row, strict=True)) for row in data]
    if any(name in came for name in NAME) and all(isinstance(one, list) for one in came.values()):
        return [dict(zip(came, row, strict=True)) for row in zip(*came.values(), strict=True)]
    return []


def _rows(came: Any) -> Any:
    """A data frame as rows by name, names in an array or series as a list; anything else as it is."""
    if hasattr(came, "columns") and hasattr(came, "to_dict"):
        return came.to_dict("records")
    kind = getattr(getattr(came, "dtype", None), "kind", "")
    return came.tolist() if kind in ("U", "O", "T", "V") else came


def _numbers(came: Any) -> NDArray[Any] | None:
    """Real numbers as an array; None for anything else."""
    try:
        values = np.asarray(came)
    except (ValueError, TypeError):
        return None
    return values if values.dtype.kind in "iuf" else None


def _plain(came: Any) -> Any:
    """Tensors, on their own or inside, as arrays: without gradients, of a type that NumPy knows, in main memory."""
    torch = sys.modules.get("torch")  # whoever made a tensor has imported it
    if torch is not None and isinstance(came, torch.Tensor):
        came = came.detach()
        return (came.float() if came.is_floating_point() and came.element_size() < 4 else came).cpu().numpy()
    if isinstance(came, dict):
        return {name: _plain(one) for name, one in came.items()}
    return [_plain(one) for one in came] if isinstance(came, (list, tuple)) else came


def _labels(values: NDArray[Any], said: str, needed: str) -> NDArray[np.int64]:
    exact = values.astype(np.float64)
    if np.isnan(exact).any():
        raise NoAnswerError(f"{said} NaN; {needed}")
    wrong = (np.abs(exact) >= WHOLE) | (exact != np.floor(exact))
    if wrong.any():
        raise NoAnswerError(f"{said} {values[wrong][0]}, which is no class index; {needed}")
    return values.astype(np.int64)
