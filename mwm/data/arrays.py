"""Arrays by their names: checked, turned into a data set, and held in memory for the Python API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mwm.config.errors import did_you_mean, reason_of, shortened
from mwm.data.datasets import PARTS, ArrayData, Dataset, Findings, array_digest, hold, names_fault, require
from mwm.data.faults import image_fault, label_fault, numbering_fault

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CLASSES = "classes"


def Arrays(  # noqa: N802 - it stands where the records of other data sets do
    *,
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    class_names: Sequence[str] = (),
    flip: bool = True,
    pad: int = 4,
) -> ArrayData:
    """The record of images in memory: uint8 n h w c with 1 or 3 channels, labels integers from 0.

    The arrays are copied, once; what happens to yours afterwards changes nothing. `class_names` is a name for each
    class, or nothing. `flip` and `pad` say how images are shown in training. The data set is named by its content: the
    same arrays give the same digests in every process. Raises ValueError, in one line, for what is wrong with them.
    """
    given = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, CLASSES: class_names}
    return hold_arrays("arrays", given, flip=flip, pad=pad)


def hold_arrays(name: str, given: Mapping[str, Any], *, flip: bool = True, pad: int = 4) -> ArrayData:
    """The record of a mapping of arrays by the names of an `npz`; ValueError, in one line after `name`, if wrong."""
    arrays, class_names = read_mapping(name, given)
    own = {key: _own(array) for key, array in arrays.items()}
    return hold(to_dataset(name, own, class_names), name, flip=flip, pad=pad)


def is_arrays(value: Any) -> bool:
    """Whether something is a mapping of arrays, and not of what a record says."""
    return isinstance(value, Mapping) and "kind" not in value and any(name in value for name in ARRAYS)


def read_mapping(name: str, given: Any) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The four arrays of a mapping, as they are, and the names of the classes; ValueError in one line, after `name`."""
    allowed = f"allowed: a mapping of {', '.join(ARRAYS)} and, if there are names, {CLASSES}"
    require(isinstance(given, Mapping), f"{name}: gives a {type(given).__name__}; {allowed}")
    held = [str(key) for key in given]
    for key in held:
        require(
            key in (*ARRAYS, CLASSES), f"{name}: {key!r} is unknown{did_you_mean(key, (*ARRAYS, CLASSES))}; {allowed}"
        )
    missing = next((key for key in ARRAYS if key not in held), "")
    told = f"it holds {shortened(sorted(held), 8)}" if held else "it is empty"
    require(not missing, f"{name}: no {missing}; {allowed} ({told})")
    arrays = {key: _as_array(name, key, given) for key in ARRAYS}
    return arrays, read_names(name, _as_array(name, CLASSES, given) if CLASSES in held else np.empty(0, "U1"))


def read_names(name: str, names: NDArray[Any]) -> tuple[str, ...]:
    """The names of classes in an array of texts or integers; ValueError, in one line after `name`, for another."""
    if names.size == 0:
        return ()
    fault = f"{name}: {CLASSES} has type {names.dtype} and shape {names.shape}; allowed: a name for each class"
    require(names.ndim == 1 and names.dtype.kind in "USiu", fault)
    texts = np.char.decode(names, "utf-8", "backslashreplace") if names.dtype.kind == "S" else names.astype(np.str_)
    return tuple(texts.tolist())


def to_dataset(
    name: str, found: dict[str, NDArray[Any]], class_names: tuple[str, ...], *, findings: Findings | None = None
) -> Dataset:
    """The data set of four arrays, which are taken out of `found`; ValueError, in one line after `name`.

    Images that lie in memory channels first, as a view n h w c of them, are not copied.
    """
    for part in PARTS:
        x, y = found[f"x_{part}"], found[f"y_{part}"]
        fault = image_fault(f"x_{part}", x, y) or label_fault(f"y_{part}", y, len(x))
        require(not fault, f"{name}: {fault}")
    size, other = (_channels_first(found[f"x_{part}"].shape) for part in PARTS)
    require(size == other, f"{name}: x_test has images of (c, h, w) {other}; allowed: {size} as in x_train")
    fault = numbering_fault(found["y_train"], found["y_test"])
    require(not fault, f"{name}: {fault}")
    classes = int(found["y_train"].max()) + 1
    fault = names_fault(class_names, classes)
    require(not fault, f"{name}: the names of the classes are not allowed: {fault}")
    _require_different(name, found["x_train"], findings)
    x_train, y_train, x_test, y_test = (_converted(found.pop(f"{kind}_{part}")) for part in PARTS for kind in "xy")
    digest = array_digest(x_train, y_train, x_test, y_test)
    return Dataset(x_train, y_train, x_test, y_test, classes, digest, class_names, findings)


def _as_array(name: str, key: str, given: Mapping[str, Any]) -> NDArray[Any]:
    try:
        return np.asarray(given[key])
    except Exception as error:  # whatever claims to be an array may fail in its own way
        reason = reason_of(error)
        raise ValueError(f"{name}: {key} is no array; allowed: what NumPy makes an array of ({reason})") from None


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """Images n h w c as a view of a copy that lies channels first; anything else as it is, to be copied or refused."""
    if array.ndim != 4 or array.dtype != np.uint8:
        return array
    return np.array(array.transpose(0, 3, 1, 2), order="C").transpose(0, 2, 3, 1)


def _channels_first(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[3], shape[1], shape[2]


def _require_different(name: str, images: NDArray[np.uint8], findings: Findings | None) -> None:
    """Refuse training images that are all alike: nothing can be learnt of them, and something was read wrongly."""
    alike = all((image == images[0]).all() for image in images[1:])
    hint = " (transparent pictures were composed on one colour: try another background)"
    told = f"{name}: all {len(images)} training images are equal; allowed: images that differ"
    require(not alike, told + (hint if findings and findings.composed else ""))


def _converted(array: NDArray[Any]) -> NDArray[Any]:
    """Sound images n h w c as uint8 n c h w, sound labels as int64."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array.astype(np.int64)
