"""Folders under the defaults: what counts as told, and how folders are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.defaults import Told, cut


@pytest.mark.parametrize(
    ("status", "marked", "sound"),
    [(0, True, True), (0, False, False), (0, None, False), (3, False, True), (2, None, True), (1, None, False)],
)
def test_a_victim_without_a_watermark_must_be_told(status: int, marked: bool | None, sound: bool) -> None:
    told = Told(folder="100x5", scheme="margin", check="refused", status=status, marked=marked, neg_log10_p=None)
    assert told.is_sound is sound


def test_a_folder_is_cut_from_the_first_archive_that_has_it(tmp_path: Path) -> None:
    archives = []
    for classes in (3, 5):
        labels = np.repeat(np.arange(classes), 4)
        images = np.zeros((len(labels), 8, 8, 3), np.uint8)
        archives.append(tmp_path / f"{classes}.npz")
        np.savez(archives[-1], x_train=images, y_train=labels, x_test=images, y_test=labels)
    folder = cut(tmp_path, archives, 20, 5)
    assert len(list(folder.glob("train/*/*.png"))) == 20
    with pytest.raises(ValueError, match="no archive has 15 pictures in 3 classes"):
        cut(tmp_path, archives, 15, 3)
