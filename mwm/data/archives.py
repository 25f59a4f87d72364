"""Data sets in NumPy archives: four arrays, and the names of the classes if they have any."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.config.errors import reason_of, shortened
from mwm.data.arrays import ARRAYS, CLASSES, read_names
from mwm.data.datasets import Npz

WORDS = {"x": ("x", "image", "img", "data", "pixel", "feature"), "y": ("y", "label", "target", "class")}
"""What others call images and labels."""


def read_archive(data: Npz) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The arrays of an archive by their names, as they are, and the names of the classes; ValueError in one line."""
    path = data.path
    allowed = f"allowed: a NumPy archive (.npz) of {', '.join(ARRAYS)}"
    try:
        with Path(path).expanduser().open("rb") as file, np.lib.npyio.NpzFile(file) as archive:
            if missing := next((name for name in ARRAYS if name not in archive), ""):
                raise ValueError(f"{path}: no {missing}; {allowed}{_instead(path, missing, archive.files)}")
            wanted = [name for name in (*ARRAYS, CLASSES) if name in archive]
            arrays = {name: _array(archive, name, path) for name in wanted}
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        reason = reason_of(error)
        raise ValueError(f"{path}: no readable {ARRAYS[0]}; {allowed} ({reason})") from None
    return arrays, read_names(path, arrays.pop(CLASSES, np.empty(0, "U1")))


def _array(archive: Any, name: str, path: str) -> NDArray[Any]:
    try:
        return np.asarray(archive[name])
    except Exception as error:  # an archive that is cut or changed fails in a dozen unrelated ways
        reason = reason_of(error)
        if "allow_pickle" in reason:
            line = f"{name} = np.array({name}.tolist())"
            reason = f"it is an array of Python objects, read by no allow_pickle; in NumPy: {line}"
        raise ValueError(
            f"{path}: no readable {name}; allowed: an array of numbers, or of strings ({reason})"
        ) from None


def _instead(path: str, missing: str, held: Iterable[str]) -> str:
    """What an archive holds in place of an array, and the line that saves it by the right names."""
    names = sorted(held)
    told = f" (it holds {shortened(names, 8)})" if names else " (it holds nothing)"
    found = {name: _alike(name, names) for name in ARRAYS}
    if all(found.values()) and len({*found.values()}) == len(ARRAYS):
        given = ", ".join(f"{name}=a[{other!r}]" for name, other in found.items())
        return f"{told}; in NumPy: a = np.load({path!r}); np.savez({path!r}, {given})"
    return told + (f" (did you mean {found[missing]}?)" if found[missing] else "")


def _alike(name: str, held: list[str]) -> str:
    if name in held:
        return name
    kind, part = name.split("_")
    for other in held:
        low = other.lower()
        rest = low.replace(part, "").strip("_- ")
        if part in low and any(rest == word or (len(word) > 1 and word in rest) for word in WORDS[kind]):
            return other
    return next(iter(get_close_matches(name, [other for other in held if other not in ARRAYS], 1)), "")
