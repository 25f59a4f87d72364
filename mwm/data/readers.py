"""Data sets as they lie on disk: read, checked, and named by their content."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mwm.config.randomness import make_generator
from mwm.data import downloads
from mwm.data.archives import read_archive
from mwm.data.datasets import (
    Dataset,
    DatasetSpec,
    Digits,
    Findings,
    ImageFolder,
    Npz,
    array_digest,
    names_fault,
    require,
)
from mwm.data.faults import image_fault, label_fault, numbering_fault

PARTS = ("train", "test")


def load_dataset(data: DatasetSpec) -> Dataset:
    """Read and check a data set; ValueError, in one line: the file or array at fault, what it is, what is allowed."""
    name = getattr(data, "path", getattr(data, "root", data.kind))
    found, class_names, findings = _read(data)
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


def download_note(data: DatasetSpec) -> str | None:
    """What loading will download, as a sentence for the user; None if everything needed is on this machine."""
    return None if isinstance(data, Digits | Npz | ImageFolder) else downloads.download_note(data)


def _read(data: DatasetSpec) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], Findings | None]:
    """The four arrays as they are in the files, the names of the classes, and what the files are."""
    match data:
        case Digits():
            return _digits(), (), None
        case Npz():
            return *read_archive(data), None
        case ImageFolder():
            from mwm.data.folders import read_folder  # Pillow takes longer to import than an archive to read

            return read_folder(data)
    return *downloads.read_public(data), None


def _digits() -> dict[str, NDArray[Any]]:
    """Read scikit-learn's file without scikit-learn, which takes longer to import than all the rest of a check."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ValueError("digits: scikit-learn, which brings them, is not installed; see requirements.txt")
    table = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, 64].astype(np.int64)
    order = torch.randperm(len(images), generator=make_generator(0, "digits")).numpy()
    test, train = order[:360], order[360:]
    return {"x_train": images[train], "y_train": labels[train], "x_test": images[test], "y_test": labels[test]}


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
