"""Folders of pictures: what is a class, what is left out and counted, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets as public

from mwm.data.datasets import Dataset, Findings, ImageFolder
from mwm.data.readers import load_dataset


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


def folder(root: Path, names: tuple[str, ...] = ("ant", "bee")) -> Path:
    for number, name in enumerate(names):
        draw(root / "train" / name / "a.png", number)
        draw(root / "test" / name / "a.png", number + 50)
    return root


def read(root: Path) -> Dataset:
    return load_dataset(ImageFolder(root=str(root), size=8))


def found(root: Path) -> Findings:
    findings = read(root).findings
    assert findings is not None
    return findings


def refusal(root: Path) -> str:
    """The one line by which a folder is refused."""
    with pytest.raises(ValueError, match="allowed") as caught:
        read(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_are_named_and_numbered_as_torchvision_does(tmp_path: Path) -> None:
    names = tuple(str(number) for number in range(12))
    folder(tmp_path, names)
    for number, inner in enumerate(["b/c", "b-c", "b", "b/a", "."]):
        draw(tmp_path / "train" / "3" / inner / "z.png", 80 + number)
        draw(tmp_path / "train" / "3" / inner / "A.png", 90 + number)
    dataset, theirs = read(tmp_path), public.ImageFolder(tmp_path / "train")
    assert dataset.class_names == tuple(theirs.classes) == tuple(sorted(names))
    assert dataset.y_train.tolist() == theirs.targets
    for image, (path, _) in zip(dataset.x_train, theirs.samples, strict=True):
        with Image.open(path) as picture:
            plain = np.asarray(picture.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR))
        assert np.array_equal(image.transpose(1, 2, 0), plain)
    assert dataset.findings is not None
    assert dataset.findings.deeper == 8


def test_what_is_hidden_or_no_picture_is_left_out_and_counted(tmp_path: Path) -> None:
    plain = read(folder(tmp_path)).digest
    for place in (".ipynb_checkpoints/a.png", "__MACOSX/ant/._a.png", "ant/.DS_Store", "ant/.x.png", "bee/Thumbs.db"):
        draw(tmp_path / "train" / f"{place}.png")
        (tmp_path / "train" / f"{place}.png").rename(tmp_path / "train" / place)
    draw(tmp_path / ".git" / "a.png")
    for place in ("train/ant/labels.csv", "train/ant/deep/notes.txt", "test/bee/meta.json"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("1")
    os.mkfifo(tmp_path / "test" / "ant" / "pipe.png")
    draw(tmp_path / "train" / "lost.png")
    draw(tmp_path / "valid" / "ant" / "a.png")
    findings = found(tmp_path)
    assert findings.hidden == 6
    told = {"train/ant/labels.csv", "train/ant/deep/notes.txt", "test/bee/meta.json", "test/ant/pipe.png"}
    assert {*findings.no_pictures} == told
    assert findings.unclassed == ("train/lost.png", "valid")
    assert read(tmp_path).digest == plain
    assert (findings.smallest, findings.largest, findings.modes) == ((5, 6), (5, 6), {"RGB": 4})


def test_sizes_are_told_from_the_smallest_to_the_largest(tmp_path: Path) -> None:
    draw(folder(tmp_path) / "test" / "ant" / "wide.png", 7, (3, 40))
    draw(tmp_path / "train" / "ant" / "dot.png", 8, (1, 2))
    findings = found(tmp_path)
    assert (findings.smallest, findings.largest) == ((2, 1), (40, 3))


def test_names_that_are_no_plain_text_are_made_readable(tmp_path: Path) -> None:
    folder(tmp_path, ("Müller", "b"))
    for part in ("train", "test"):  # composed in one part, not in the other, as after a copy from another system
        (tmp_path / part / "b").rename(tmp_path / part / ("Zoe\u0308" if part == "train" else "Zo\u00eb"))
        (tmp_path / part / "Müller").rename(tmp_path / part / os.fsdecode(b"M\xfcller"))
        draw(tmp_path / part / "two\nlines" / "a.png", 9)
        (tmp_path / part / "Zo\u00eb" / os.fsdecode(b"\xff\n.txt")).write_text("") if part == "test" else None
    assert found(tmp_path).no_pictures == ("test/Zoë/\\xff\\n.txt",)
    assert read(tmp_path).class_names == ("M\\xfcller", "Zoë", "two\\nlines")


def test_labels_follow_names_where_the_parts_sort_differently(tmp_path: Path) -> None:
    folder(tmp_path, ("Zoe\u0308", "Zof"))
    (tmp_path / "test" / "Zoe\u0308").rename(tmp_path / "test" / "Zo\u00eb")
    dataset = read(tmp_path)
    assert dataset.class_names == ("Zoë", "Zof")
    assert dataset.y_test.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["self.png", "self"])
def test_a_link_to_itself(name: str, tmp_path: Path) -> None:
    (folder(tmp_path) / "train" / "ant" / name).symlink_to(name)
    if name == "self":
        assert found(tmp_path).no_pictures == ("train/ant/self",)
    else:
        assert "self.png: no readable image" in refusal(tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "b.png", 3)
    (folder(tmp_path / "set") / "train" / "ant" / "more").symlink_to(tmp_path / "elsewhere")
    assert len(read(tmp_path / "set").y_train) == 3
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set" / "train" / "ant")
    assert "is a link to a folder that it lies in" in refusal(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "train").rename(root / "Training"), "there are the folders Training, test"),
        (lambda root: (root / "test").rename(root / "val"), "there are the folders train, val"),
        (lambda root: (root / "train" / "cat").mkdir(), "train/cat: holds no picture; allowed"),
        (
            lambda root: (root / "test" / "bee" / "a.png").rename(root / "test" / "bee" / "a.txt"),
            "(but test/bee/a",
        ),
        (lambda root: draw(root / "train" / "cat" / "a.png"), "only one of train and test has the classes cat;"),
        (lambda root: (root / "train" / "bee").rename(root / "train" / "ant" / "bee"), "has 1 class, ant, with the"),
        (lambda root: (root / "train" / "bee").rename(root / "bee"), "train: has 1 class, ant; allowed"),
    ],
)
def test_what_is_no_data_set_is_refused_with_what_is_there(change: object, said: str, tmp_path: Path) -> None:
    assert callable(change)
    change(folder(tmp_path))
    assert said in refusal(tmp_path)


def test_a_root_that_is_one_level_off_is_guessed(tmp_path: Path) -> None:
    folder(tmp_path / "up" / "pictures")
    assert f"did you mean root: {tmp_path / 'up' / 'pictures'}?" in refusal(tmp_path / "up")
    assert "in no" not in (line := refusal(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in line


def test_equal_images_are_refused(tmp_path: Path) -> None:
    blank = Image.new("RGBA", (6, 6), (255, 255, 255, 0))
    for place in ("train/ant", "train/bee", "test/ant", "test/bee"):
        (tmp_path / place).mkdir(parents=True)
        blank.save(tmp_path / place / "a.png")
    line = refusal(tmp_path)
    assert "all 2 training images are equal" in line
    assert "another background" in line
