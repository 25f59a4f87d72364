"""Data sets as they lie on disk: read, checked, and named by their content."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mwm.config.randomness import make_generator
from mwm.config.trust import require_trust
from mwm.data import downloads
from mwm.data.archives import read_archive
from mwm.data.arrays import read_mapping, to_dataset
from mwm.data.datasets import (
    ArrayData,
    Dataset,
    DatasetSpec,
    Digits,
    Findings,
    ImageFolder,
    Npz,
    PythonData,
    require,
)

Elsewhere = downloads.PublicData | Digits | Npz | ImageFolder | PythonData
"""Data sets that have to be read."""


def load_dataset(data: DatasetSpec, *, trust: bool = False) -> Dataset:
    """Read and check a data set; ValueError, in one line: the file or array at fault, what it is, what is allowed.

    The code of a function runs with `trust` alone.
    """
    if isinstance(data, ArrayData):
        gone = f"arrays {data.digest} are not in the memory of this process; allowed: mwm.Arrays(...) of them in Python"
        require(data.dataset is not None, f"{gone}, or the kind npz for a file")
        assert data.dataset is not None
        return data.dataset
    if isinstance(data, PythonData):
        require_trust(f"data.function: {data.function}", "callable", trust=trust)
    name = next((getattr(data, field) for field in ("path", "root", "function") if hasattr(data, field)), data.kind)
    found, class_names, findings = _read(data)
    return to_dataset(name, found, class_names, findings=findings)


def download_note(data: DatasetSpec) -> str | None:
    """What loading will download, as a sentence for the user; None if everything needed is on this machine."""
    return downloads.download_note(data) if isinstance(data, downloads.PublicData) else None


def _read(data: Elsewhere) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], Findings | None]:
    """The four arrays as they are in the files, the names of the classes, and what the files are."""
    match data:
        case Digits():
            return _digits(), (), None
        case Npz():
            return *read_archive(data), None
        case ImageFolder():
            from mwm.data.folders import read_folder  # Pillow takes longer to import than an archive to read

            return read_folder(data)
        case PythonData():
            return *read_mapping(data.function, data.call()), None
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
