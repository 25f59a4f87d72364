"""What is wrong with arrays of images and labels, and the line of NumPy that mends it."""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOUND_IMAGES = "uint8 from 0 to 255"
SOUND_SHAPE = "(n, height, width, channels), not empty, 1 or 3 channels"
NUMBERED = "classes, y_train = np.unique(y_train, return_inverse=True); y_test = np.searchsorted(classes, y_test)"


def image_fault(name: str, x: NDArray[Any], labels: NDArray[Any]) -> str:
    """Why an array is none of images, uint8 n h w c, in one line; nothing if it is. `labels` are those beside it."""
    if x.ndim <= 2 and labels.ndim >= 3:
        return (
            f"{name} has shape {x.shape}, and the labels beside it {labels.shape}: they are exchanged; allowed: images"
        )
    if x.dtype != np.uint8:
        numbers = x.dtype.kind in "fiu" and x.size > 0
        low, high = (float(x.min()), float(x.max())) if numbers else (np.nan, np.nan)
        values = f"values from {low:g} to {high:g}" if np.isfinite(high - low) else "values that are not finite"
        told = f"{name} has type {x.dtype}" + (f" with {values}" if numbers else "")
        return _told(told, SOUND_IMAGES, _to_uint8(name, x.dtype.kind, low=low, high=high))
    if x.ndim == 4 and 0 not in x.shape and x.shape[3] in (1, 3):
        return ""
    cause, line = _to_sound_shape(name, x, len(labels) if labels.ndim else 0)
    return _told(f"{name} has shape {x.shape}{cause}", SOUND_SHAPE, line)


def _to_uint8(name: str, kind: str, *, low: float, high: float) -> str:
    """The line that makes uint8 of numbers from `low` to `high`; nothing where that cannot be told."""
    if kind == "b":
        return f"{name} = {name}.astype('uint8') * 255"
    whole = f"{name} = {name}.round().astype('uint8')" if kind == "f" else f"{name} = {name}.astype('uint8')"
    ways = [
        (kind == "f" and low >= 0 and high <= 1, f"{name} = ({name} * 255).round().astype('uint8')"),
        (kind == "f" and low >= -1 and high <= 1, f"{name} = (({name} + 1) * 127.5).round().astype('uint8')"),
        (low >= 0 and high <= 255, whole),
        (low >= 0 and high <= 65535, f"{name} = ({name} / 257).round().astype('uint8')"),
        (kind == "i" and low >= -128 and high <= 127, f"{name} = ({name}.astype('int16') + 128).astype('uint8')"),
        (kind == "f" and low > -10 and high < 10, f"{name} = (({name} * std + mean) * 255).round().astype('uint8')"),
    ]
    return next((line for fits, line in ways if fits), "")


def _to_sound_shape(name: str, x: NDArray[np.uint8], count: int) -> tuple[str, str]:
    """What is odd in the shape of `count` images, and the line that mends it."""
    n, *rest = shape = x.shape or (0,)
    opaque = x.ndim == 4 and x.size > 0 and shape[3] in (2, 4) and bool((x[..., -1] == 255).all())
    composed = f"(255 + ({name}[..., :-1] - 255.0) * ({name}[..., -1:] / 255)).round().astype('uint8')"
    ways = [
        (x.ndim == 4 and shape[1] in (1, 3), "the channels come first", f"{name}.transpose(0, 2, 3, 1)"),
        (
            x.ndim == 4 and shape[-1] == count and shape[2] in (1, 3),
            "images come last",
            f"{name}.transpose(3, 0, 1, 2)",
        ),
        (opaque, "a channel of transparency, which is opaque", f"{name}[..., :-1]"),
        (x.ndim == 4 and shape[-1] in (2, 4), "a channel of transparency; to compose it on white", composed),
        (x.ndim == 3 and n == count, "grey images without an axis of channels", f"{name}[..., None]"),
        (x.ndim == 3 and shape[-1] == count, "images come last", f"{name}.transpose(2, 0, 1)[..., None]"),
    ]
    for channels in (1, 3) if x.ndim == 2 else ():
        side = isqrt(rest[0] // channels)
        line = f"{name}.reshape(-1, {channels}, {side}, {side}).transpose(0, 2, 3, 1)"
        ways.append((channels * side * side == rest[0], "flat images; if one channel comes after another", line))
    fitting = ((f": {cause}", f"{name} = {line}") for fits, cause, line in ways if fits and 0 not in shape)
    return next(fitting, ("", ""))


def label_fault(name: str, y: NDArray[Any], count: int) -> str:
    """Why an array is none of the labels of `count` images, in one line; nothing if it is."""
    if y.ndim == 2 and 1 in y.shape and y.size == count:
        return _told(f"{name} has shape {y.shape}: a table", f"({count},)", f"{name} = {name}.reshape(-1)")
    if y.ndim == 2 and len(y) == count and y.dtype.kind in "fiub" and np.allclose(y.sum(1), 1):
        told = f"{name} has shape {y.shape}: a column for each class"
        return _told(told, f"({count},), the numbers of classes", f"{name} = {name}.argmax(1)")
    if y.dtype.kind in "US":
        line = f"{NUMBERED}; save classes, too"
        return _told(f"{name} has type {y.dtype}: names", "integers from 0", line)
    if y.dtype.kind not in "iu":
        whole = y.dtype.kind == "b" or (y.dtype.kind == "f" and np.isfinite(y).all() and (y == y.round()).all())
        return _told(f"{name} has type {y.dtype}", "integers", f"{name} = {name}.astype('int64')" if whole else "")
    if y.shape != (count,):
        return f"{name} has shape {y.shape}; allowed: ({count},), a label for each image"
    return ""


def numbering_fault(y_train: NDArray[Any], y_test: NDArray[Any]) -> str:
    """Why labels do not number classes from 0 on, each with a training image, in one line; nothing if they do."""
    held = np.unique(y_train)
    low, high, count = int(held[0]), int(held[-1]), len(held)
    if count > 1 and (low, high) == (1, count):
        said = f"y_train holds the labels 1 to {count}: they begin at 1"
        both = "y_train, y_test = y_train - 1, y_test - 1"
        return _told(said, f"0 to {count - 1}", both if y_test.min() > 0 else "y_train = y_train - 1")
    if low < 0 or high >= 2**31:
        said = f"y_train holds the label {low if low < 0 else high}"
        return _told(said, "0 to the number of classes - 1", NUMBERED)
    if count == 1 or count != high + 1:
        said = f"y_train has {count} of classes 0 to {high}"
        return _told(said, "all, 2 or more", NUMBERED if count > 1 else "")
    for label in (int(y_test.min()), int(y_test.max())):
        if not 0 <= label <= high:
            line = "y_test = y_test - 1" if (y_test.min(), y_test.max()) == (1, count) else ""
            return _told(f"y_test holds the label {label}", f"0 to {high} as in y_train", line)
    return ""


def _told(fault: str, allowed: str, line: str) -> str:
    return f"{fault}; allowed: {allowed}" + (f"; in NumPy: {line}" if line else "")
