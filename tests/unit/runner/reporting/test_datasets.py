"""What a check tells of data sets: what is in them, what is left out, what is suspicious."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mwm.data.datasets import Dataset
from mwm.runner.reporting.datasets import dataset_lines
from mwm.runner.reporting.figures.contact_sheet import draw_contact_sheet
from tests.helpers.asking import Say

SWEEP = {
    "name": "s",
    "victim": {
        "data": {"kind": "imagefolder", "root": "pictures", "size": 12},
        "split": {"validation": 5, "queries": 12},
        "model": {"kind": "cnn", "width": 8},
        "recipe": {"epochs": 1, "batch_size": 8},
        "scheme": {"kind": "margin", "num_queries": 12},
    },
}


def noise(count: int, seed: int = 0, shape: tuple[int, ...] = (3, 6, 5)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def dataset(**changes: Any) -> Dataset:
    fields: dict[str, Any] = {"x_train": noise(60), "x_test": noise(30, 1), "classes": 3, "digest": ""}
    fields |= {"y_train": np.arange(60) % 3, "y_test": np.arange(30) % 3} | changes
    return Dataset(**fields)


def warnings(held: Dataset) -> list[str]:
    told = "warning: victim.data: "
    return [line.removeprefix(told) for line in dataset_lines("victim.data", "npz", held) if line.startswith(told)]


def test_what_a_data_set_holds_is_told() -> None:
    lines = list(dataset_lines("victim.data", "npz", dataset(class_names=("ant", "bee", "cat"))))
    assert lines == [
        "victim.data: npz, 60 training and 30 test images, 3×6×5",
        "  classes: 3, training+test: 0 ant 20+10, 1 bee 20+10, 2 cat 20+10",
        "  equal: 0 training images to an earlier one, 0 test images to a training image",
    ]


def test_many_classes_are_shortened() -> None:
    many = dataset(y_train=np.arange(60) % 20, y_test=np.arange(30) % 20, classes=20)
    line = list(dataset_lines("victim.data", "npz", many))[1]
    assert line.endswith("9 3+2 and 10 more; 3 to 3 training images in each")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": np.concatenate([noise(57), noise(3)])}, "5% of the training images are equal to an earlier one"),
        ({"x_test": np.concatenate([noise(29, 1), noise(1)])}, "3% of the test images are training images, too"),
        ({"x_train": noise(60) // 128}, "the brightest pixel is 1 of 255"),
    ],
)
def test_what_is_suspicious_is_warned_of(changes: Any, said: str) -> None:
    assert any(line.startswith(said) for line in warnings(dataset(**changes)))


def test_equal_images_with_other_labels_are_warned_of() -> None:
    told = warnings(dataset(x_train=np.concatenate([noise(58), noise(2)])))
    assert told == ["2 images are equal to one of another class"]
    assert warnings(dataset()) == []


def pictures(root: Path, names: list[str]) -> None:
    """Twenty training and five test pictures of each class, the first one in a colour of its own."""
    for number, place in enumerate(f"{part}/{name}" for part in ("train", "test") for name in names):
        (root / place).mkdir(parents=True)
        for row, pixels in enumerate(noise(20 if "train" in place else 5, number, (12, 12, 3))):
            Image.fromarray(pixels).save(root / place / f"{row:02}.png")


def test_check_tells_what_was_found_in_a_folder(say: Say, tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", [str(number) for number in range(12)])
    first = tmp_path / "pictures" / "train" / "0"
    (first / ".DS_Store").write_text("")
    (first / "notes.txt").write_text("")
    Image.fromarray(noise(1, 9, (12, 9))[0].astype(np.float32) / 255).save(first / "deep.tif")
    Image.new("RGB", (12, 12), (1, 2, 3)).save(first / "00.png")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    status, out, err = say("check", "s.yaml", "--contact-sheet", "sheet.png")
    assert (status, err) == (0, "")
    for said in (
        "victim.data: imagefolder, 241 training and 60 test images, 3×12×12",
        "classes: 12, training+test: 0 0 21+5, 1 1 20+5, 2 10 20+5",
        "files: 9×12 to 12×12 pixels; RGB 300, F 1; white is 1 in F",
        "left out: 1 hidden; 1 no pictures (train/0/notes.txt)",
        "warning: victim.data: folders are sorted as text, so class 2 is the folder 10: write 01, 02 for this order",
        "contact sheet: sheet.png",
    ):
        assert said in out, out
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (sheet == (1, 2, 3)).all(-1).sum() == 72**2, "an image as the network sees it, six times as large"


@pytest.mark.parametrize("path", ["sheet.jpg", "nowhere/sheet.png", "sheet"])
def test_a_sheet_that_cannot_be_written_is_refused_before_anything_is_read(path: str, say: Say, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    status, out, err = say("check", "s.yaml", "--contact-sheet", path)
    assert (status, out) == (2, "")
    assert err == f"--contact-sheet: {path} is not allowed; allowed: a .png file in a folder that exists\n"


def test_a_sheet_shows_grey_and_colour_and_long_names(tmp_path: Path) -> None:
    grey = dataset(x_train=noise(60, 0, (1, 100, 80)), class_names=("a" * 300, "bee", "ü→"))
    draw_contact_sheet([("one", grey), ("two", dataset())], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width < 300 + 8 * (80 + 4)
        assert sheet.height > 3 * 100 + 3 * 6 * 13


@pytest.mark.slow
def test_a_run_names_what_is_left_out_before_anything_is_started(say: Say, tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", ["ant", "bee", "cat"])
    (tmp_path / "pictures" / "train" / "ant" / "notes.txt").write_text("")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    status, out, err = say("run", "s.yaml", "--address", "127.0.0.1:9")
    assert (status, out) == (2, "left out: 1 no pictures (train/ant/notes.txt)\n")
    assert err.startswith("--address: 127.0.0.1:9")
