"""What a large data set takes of memory: its bytes, once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mwm
from mwm.data.datasets import Dataset, ImageFolder
from mwm.data.images import PIECE, convert_images
from mwm.data.readers import load_dataset
from mwm.runner.reporting.datasets import dataset_lines

SIDE, TRAIN, TEST = 224, 90, 30
WHOLE = (TRAIN + TEST) * 3 * SIDE * SIDE
"""Bytes of a folder as a data set."""


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported and kept on first use is not counted."""
    folder = tmp_path_factory.mktemp("warm")
    pictures(folder, "RGB", count=6)
    list(dataset_lines("data", "imagefolder", load_dataset(ImageFolder(root=str(folder), size=8))))


def pictures(root: Path, mode: str, *, count: int = TRAIN) -> Path:
    """A folder of small pictures in three classes, which are read as large ones."""
    drawn = np.random.default_rng(0)
    for part, number in (("train", count), ("test", TEST)):
        for place in range(number):
            path = root / part / "abc"[place % 3] / f"{place}.{'tif' if mode == 'F' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = drawn.integers(0, 256, (12, 12, 3))
            grey = {"F": np.float32, "I;16": np.uint16}.get(mode)
            Image.fromarray(values.astype(np.uint8) if grey is None else values[..., 0].astype(grey)).save(path)
    return root


def peak(make: Callable[[], Any]) -> tuple[Any, int]:
    """What is made, and how many bytes more than before were in use at most meanwhile."""
    tracemalloc.start()
    try:
        made = make()
        return made, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", ["RGB", "I;16", "F"])
def test_a_folder_of_large_pictures_is_in_memory_once(mode: str, tmp_path: Path) -> None:
    data = ImageFolder(root=str(pictures(tmp_path, mode)), size=SIDE)
    dataset, most = peak(lambda: load_dataset(data))
    assert isinstance(dataset, Dataset)
    assert dataset.x_train.nbytes + dataset.x_test.nbytes == WHOLE
    assert dataset.x_train.flags.c_contiguous
    assert most < 1.15 * WHOLE
    _, told = peak(lambda: list(dataset_lines("data", "imagefolder", dataset)))
    assert told < 0.1 * WHOLE


def test_arrays_are_copied_once(tmp_path: Path) -> None:
    dataset = load_dataset(ImageFolder(root=str(pictures(tmp_path, "RGB")), size=SIDE))
    given = {"x_train": dataset.x_train, "x_test": dataset.x_test}
    own: dict[str, Any] = {name: np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for name, x in given.items()}
    record, most = peak(lambda: mwm.Arrays(**own, y_train=dataset.y_train, y_test=dataset.y_test))
    assert record.digest == dataset.digest
    assert most < 1.1 * WHOLE


def test_images_of_another_size_are_converted_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200, 3, SIDE, SIDE), np.uint8))
    taken, resized = [], torch.nn.functional.interpolate

    def watched(x: Tensor, **how: Any) -> Tensor:
        taken.append(x.numel())
        return resized(x, **how)

    monkeypatch.setattr(torch.nn.functional, "interpolate", watched)
    whole = convert_images(images, (3, 64, 64))
    assert len(taken) == 3
    assert max(taken) <= PIECE
    assert torch.equal(whole[::50], torch.cat([convert_images(one[None], (3, 64, 64)) for one in images[::50]]))
