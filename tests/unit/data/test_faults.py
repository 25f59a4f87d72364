"""Archives of arrays: a fault names its cause, and the line of NumPy that mends it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mwm.data.datasets import Dataset, Npz
from mwm.data.readers import load_dataset

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
RNG = np.random.default_rng(0)
SOUND: dict[str, Any] = {
    "x_train": RNG.integers(0, 256, (12, 6, 5, 3), np.uint8),
    "y_train": np.arange(12) % 4,
    "x_test": RNG.integers(0, 256, (8, 6, 5, 3), np.uint8),
    "y_test": np.arange(8) % 4,
}
SOUND["x_train"].flat[:2] = SOUND["x_test"].flat[:2] = 0, 255


def read(folder: Path, arrays: dict[str, Any]) -> Dataset:
    np.savez(folder / "a.npz", **arrays)
    return load_dataset(Npz(path=str(folder / "a.npz")))


def refusal(folder: Path, arrays: dict[str, Any]) -> str:
    """The one line by which an archive is refused."""
    with pytest.raises(ValueError, match="allowed") as caught:
        read(folder, arrays)
    assert "\n" not in str(caught.value)
    assert str(folder / "a.npz") in str(caught.value)
    return str(caught.value)


def grey(x: Any) -> Any:
    return x[..., 0]


def rgba(x: Any, alpha: int = 255) -> Any:
    return np.concatenate([x, np.full_like(x[..., :1], alpha)], -1)


BOTH: list[tuple[str, str, Any]] = [
    ("x", "float32 with values from 0 to 1;", lambda x: x.astype(np.float32) / 255),
    ("x", "float64 with values from -1 to 1;", lambda x: x / 127.5 - 1),
    ("x", "float16 with values from 0 to 255;", lambda x: x.astype(np.float16)),
    ("x", "int64 with values from 0 to 255;", lambda x: x.astype(np.int64)),
    ("x", "uint16 with values from 0 to 65535;", lambda x: x.astype(np.uint16) * 257),
    ("x", "int8 with values from -128 to 127;", lambda x: (x.astype(np.int16) - 128).astype(np.int8)),
    ("x", "the channels come first", lambda x: x.transpose(0, 3, 1, 2)),
    ("x", "images come last", lambda x: x.transpose(1, 2, 3, 0)),
    ("x", "transparency, which is opaque", rgba),
    ("x", "to compose it on white", lambda x: rgba(x, 254)),
    ("y", "a table", lambda y: y[:, None]),
    ("y", "a table", lambda y: y[None]),
    ("y", "a column for each class", lambda y: np.eye(4)[y]),
    ("y", "a column for each class", lambda y: np.eye(4, dtype=bool)[y]),
    ("y", "float64", lambda y: y.astype(float)),
    ("y", "they begin at 1", lambda y: y + 1),
    ("y", "3 of classes 0 to 5", lambda y: np.array([0, 2, 5, 5])[y]),
    ("y", "4 of classes 0 to 30", lambda y: y * 10),
    ("y", "the label -1", lambda y: y - 1),
    ("y", "names", lambda y: np.array(["ant", "bee", "cat", "dog"])[y]),
    ("y", "names", lambda y: np.array([b"ant", b"bee", b"cat", b"dog"])[y]),
    ("y", "Python objects", lambda y: np.array(["ant", "bee", "cat", "dog"], object)[y]),
    ("y", "Python objects", lambda y: y.astype(object)),
    ("x", "Python objects", lambda x: x.astype(object)),
]


def lines(message: str) -> str:
    """The NumPy that a message names."""
    found = re.search(r"in NumPy: (.*?)(; save classes, too|, if .*)?\)?$", message)
    assert found, message
    text = found[1]
    return text if text.count("(") == text.count(")") else text + ")"


@pytest.mark.parametrize(("kind", "said", "spoil"), BOTH, ids=[f"{n}-{one[1]}" for n, one in enumerate(BOTH)])
def test_the_line_that_is_named_mends_the_archive(kind: str, said: str, spoil: Any, tmp_path: Path) -> None:
    arrays = SOUND | {name: spoil(SOUND[name]) for name in ARRAYS if name[0] == kind}
    assert said in refusal(tmp_path, arrays)
    for _ in range(6):
        try:
            mended = read(tmp_path, arrays)
        except ValueError as error:
            scope = {"np": np, **arrays}
            exec(lines(str(error)), scope)
            arrays = {name: scope[name] for name in (*ARRAYS, "classes") if name in scope}
        else:
            break
    sound = read(tmp_path, SOUND)
    assert np.abs(mended.x_train.astype(int) - sound.x_train).max() <= 1
    assert mended.shape == sound.shape
    held, expected = (np.unique(y, return_inverse=True)[1] for y in (mended.y_train, SOUND["y_train"]))
    assert (held == expected).all() or said.startswith("3 of")
    assert len(mended.y_test) == 8


def test_grey_images_without_an_axis_of_channels(tmp_path: Path) -> None:
    arrays = SOUND | {name: grey(SOUND[name]) for name in ("x_train", "x_test")}
    line = refusal(tmp_path, arrays)
    assert "grey images without an axis of channels" in line
    assert lines(line) == "x_train = x_train[..., None]"
    arrays = SOUND | {name: grey(SOUND[name]).transpose(1, 2, 0) for name in ("x_train", "x_test")}
    assert lines(refusal(tmp_path, arrays)) == "x_train = x_train.transpose(2, 0, 1)[..., None]"


def test_flat_images(tmp_path: Path) -> None:
    flat = np.random.default_rng(0).integers(0, 256, (12, 3 * 16), np.uint8)
    line = lines(refusal(tmp_path, SOUND | {"x_train": flat}))
    assert line == "x_train = x_train.reshape(-1, 3, 4, 4).transpose(0, 2, 3, 1)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": SOUND["y_train"], "y_train": SOUND["x_train"]}, "they are exchanged"),
        ({"x_train": SOUND["x_train"] * np.nan}, "float64"),
        ({"x_train": (SOUND["x_train"] / 255 - 0.5) / 0.2}, "* std + mean) * 255"),
        ({"x_train": SOUND["x_train"].astype(complex)}, "complex128"),
        ({"y_train": SOUND["y_train"] + 0.5}, "float64"),
        ({"y_train": SOUND["y_train"][:5]}, "(5,); allowed: (12,), a label for each image"),
        ({"y_test": SOUND["y_test"] + 1}, "y_test = y_test - 1"),
        ({"y_train": SOUND["y_train"] + 1}, "in NumPy: y_train = y_train - 1"),
        ({"y_train": np.arange(48).reshape(12, 4)}, "(12, 4); allowed: (12,), a label for each image"),
        ({"x_train": np.zeros_like(SOUND["x_train"])}, "all 12 training images are equal"),
        ({"classes": ["a", "b"]}, "2 names for 4 classes"),
        ({"classes": ["a", "b", "b", "c"]}, "'b' is the name of 2"),
        ({"classes": ["a", "b", "", "c"]}, "'' is no printable name"),
        ({"classes": [[1, 2], [3, 4]]}, "classes has type int64"),
        ({"classes": 4}, "allowed: a name for each class"),
        ({"classes": np.array(["a", "b", "c", "d"], object)}, "classes = np.array(classes.tolist())"),
    ],
)
def test_what_else_is_no_data_set(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, SOUND | changes)


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_x", "train_y", "test_x", "test_y"),
        ("data_train", "targets_train", "data_test", "targets_test"),
    ],
)
def test_other_names_of_arrays_are_guessed(names: tuple[str, ...], tmp_path: Path) -> None:
    line = refusal(tmp_path, dict(zip(names, SOUND.values(), strict=True)))
    assert "no x_train" in line
    exec(lines(line), {"np": np})
    assert load_dataset(Npz(path=str(tmp_path / "a.npz"))).digest == read(tmp_path, SOUND).digest


def test_a_missing_array_is_told_with_what_is_there(tmp_path: Path) -> None:
    assert "no x_test; " in (line := refusal(tmp_path, {"x_train": 1, "y_train": 2, "y_test": 3, "x_tset": 4}))
    assert "x_test=a['x_tset']" in line
    assert "did you mean y_tain?" in refusal(tmp_path, {"x_train": 1, "y_tain": 2, "data": 3})
    assert "(it holds a, b)" in refusal(tmp_path, {"a": 1, "b": 2})


def test_names_of_classes_are_kept_and_change_no_digest(tmp_path: Path) -> None:
    plain = read(tmp_path, SOUND)
    assert plain.class_names == ()
    for names in (["ä", "b", "c", "d"], np.char.encode(["ä", "b", "c", "d"], "utf-8")):
        named = read(tmp_path, SOUND | {"classes": names})
        assert (named.class_names, named.digest) == (("ä", "b", "c", "d"), plain.digest)
