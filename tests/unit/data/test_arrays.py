"""Arrays in memory, and those that a function returns: named by their content, and refused in one line."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mwm
from mwm.config.spec import decode, encode
from mwm.data.arrays import hold_arrays, is_arrays
from mwm.data.datasets import ArrayData, Dataset, DatasetSpec, Npz, PythonData
from mwm.data.readers import download_note, load_dataset
from tests.helpers.records import arrays

SOUND = arrays(24, (4, 5, 3), 3, 7)
NAMES = ["ant", "bee", "cat"]


def held(record: ArrayData) -> Dataset:
    assert record.dataset is not None
    return record.dataset


def refusal(**changes: Any) -> str:
    """The one line by which arrays are refused."""
    with pytest.raises(ValueError, match=r".") as caught:
        hold_arrays("data", {**SOUND, **changes})
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_arrays_are_the_data_set_that_an_archive_of_them_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **SOUND, classes=NAMES)
    read, record = load_dataset(Npz(path=str(tmp_path / "a.npz"))), mwm.Arrays(**SOUND, class_names=NAMES)
    own = load_dataset(record)
    assert (own.digest, own.classes, own.class_names) == (read.digest, 3, (*NAMES,))
    for name in SOUND:
        np.testing.assert_array_equal(getattr(own, name), getattr(read, name))
        assert getattr(own, name).flags.c_contiguous
    assert own.shape == (3, 4, 5)
    assert download_note(record) is None
    with np.load(tmp_path / "a.npz") as archive:
        assert hold_arrays("data", archive) == record


def test_the_digest_stands_in_the_place_of_the_arrays() -> None:
    record = mwm.Arrays(**SOUND, flip=False, pad=0)
    assert encode(record) == {"kind": "arrays", "digest": held(record).digest, "flip": False, "pad": 0}
    again = decode(DatasetSpec, encode(record))
    assert again == record
    assert held(again) is held(record)
    assert held(mwm.Arrays(**SOUND)) is held(record), "equal content is there once"
    shown = replace(record, flip=True)
    assert (shown.flip, held(shown)) == (True, held(record))
    assert held(copy.deepcopy(record)) is held(record)
    assert hash(record) == hash(again)


def test_tensors_and_lists_are_arrays_too() -> None:
    record = mwm.Arrays(**SOUND)
    tensors: dict[str, Any] = {name: torch.tensor(value) for name, value in SOUND.items()}
    assert mwm.Arrays(**tensors) == record
    assert mwm.Arrays(**{**SOUND, "y_train": SOUND["y_train"].tolist()}) == record


def test_what_happens_to_ones_own_arrays_afterwards_changes_nothing() -> None:
    own = {name: value.copy() for name, value in SOUND.items()}
    own["x_test"] = np.ascontiguousarray(own["x_test"].transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    record = mwm.Arrays(**own)
    before = {name: getattr(held(record), name).copy() for name in own}
    for value in own.values():
        value[:] = 0
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(held(record), name), value)


def test_a_data_set_is_forgotten_with_its_last_record() -> None:
    record = mwm.Arrays(**arrays(24, (4, 4, 1), 3, 11))
    told, kept = encode(record), replace(record, pad=1)
    del record
    gc.collect()
    assert decode(DatasetSpec, told).dataset is not None, "a changed record holds it, too"
    del kept
    gc.collect()
    gone = decode(DatasetSpec, told)
    with pytest.raises(ValueError, match=rf"^arrays {told['digest']} are not in the memory of this process; allowed: "):
        load_dataset(gone)


def test_a_record_travels_without_its_data_set() -> None:
    record = mwm.Arrays(**arrays(3000, (8, 8, 1), 3, 12))
    packed = pickle.dumps(record)
    assert len(packed) < 2000
    assert pickle.loads(packed).dataset is record.dataset
    del record
    gc.collect()
    assert pickle.loads(packed).dataset is None


def test_other_names_of_the_classes_are_another_data_set_of_the_same_digest() -> None:
    first, second = mwm.Arrays(**SOUND, class_names=NAMES), mwm.Arrays(**SOUND, class_names=["x", "y", "z"])
    assert first == second
    assert (held(first).class_names, held(second).class_names) == ((*NAMES,), ("x", "y", "z"))


X, Y = SOUND["x_train"], SOUND["y_train"]
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"x_train": X / 255}, "data: x_train has type float64 with values from 0"),
    ({"x_train": np.where(X > 5, X / 255, np.nan)}, "data: x_train has type float64 with values that are not finite"),
    (
        {"x_train": np.where(X > 5, X, np.float32(np.inf))},
        "data: x_train has type float32 with values that are not finite",
    ),
    ({"x_train": X.transpose(0, 3, 1, 2)}, "data: x_train has shape (24, 3, 4, 5): the channels come first; allowed: "),
    ({"x_train": X[:0], "y_train": Y[:0]}, "data: x_train has shape (0, 4, 5, 3); allowed: "),
    ({"x_test": SOUND["x_test"][:, :3]}, "data: x_test has images of (c, h, w) (3, 3, 5); allowed: (3, 4, 5)"),
    ({"x_train": None}, "data: x_train has type object; allowed: uint8"),
    ({"x_train": [[1], [1, 2]]}, "data: x_train is no array; allowed: what NumPy makes an array of ("),
    ({"x_train": "pictures/"}, "data: x_train has type <U9; allowed: uint8"),
    ({"x_train": torch.ones(3, requires_grad=True)}, "data: x_train is no array; allowed: "),
    ({"x_train": np.broadcast_to(X[:1], X.shape)}, "data: all 24 training images are equal"),
    ({"y_train": Y[:-1]}, "data: y_train has shape (23,); allowed: (24,), a label for each image"),
    ({"y_train": Y + 0.5}, "data: y_train has type float64; allowed: integers"),
    ({"y_train": np.where(Y, Y, np.nan)}, "data: y_train has type float64; allowed: integers"),
    ({"y_train": Y + 1, "y_test": SOUND["y_test"] + 1}, "data: y_train holds the labels 1 to 3: they begin at 1"),
    ({"y_train": Y * 0}, "data: y_train has 1 of classes 0 to 0; allowed: all, 2 or more"),
    ({"y_test": SOUND["y_test"] + 1}, "data: y_test holds the label 3; allowed: 0 to 2 as in y_train"),
    ({"y_test": SOUND["y_test"] - 1}, "data: y_test holds the label -1; allowed: 0 to 2 as in y_train"),
    ({"classes": NAMES[:2]}, "data: the names of the classes are not allowed: 2 names for 3 classes"),
    ({"classes": ["a", "a", "b"]}, "data: the names of the classes are not allowed: 'a' is the name of 2 classes"),
    ({"classes": [NAMES]}, "data: classes has type <U3 and shape (1, 3); allowed: a name for each class"),
    ({"classes": [0.5, 1, 2]}, "data: classes has type float64 and shape (3,); allowed: a name for each class"),
    ({"x_Train": X}, "data: 'x_Train' is unknown (did you mean 'x_train'?); allowed: a mapping of x_train, y_train"),
]


@pytest.mark.parametrize(("change", "fault"), FAULTS, ids=[fault[6:40] for _, fault in FAULTS])
def test_a_mistake_in_arrays_is_one_line(change: dict[str, Any], fault: str) -> None:
    assert refusal(**change).startswith(fault)


def test_arrays_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match=r"^data: no y_test; allowed: .* \(it holds x_test, x_train, y_train\)$"):
        hold_arrays("data", {name: value for name, value in SOUND.items() if name != "y_test"})


def test_how_images_are_shown_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^arrays\.pad: -1 is not allowed: must be greater than or equal to 0$"):
        mwm.Arrays(**SOUND, pad=-1)


def test_only_a_mapping_with_an_array_is_one_of_arrays() -> None:
    assert is_arrays(SOUND)
    assert is_arrays({"x_train": 1})
    assert not any(map(is_arrays, ({}, {"kind": "npz", "path": "a"}, {"path": "a"}, "digits", X, None)))


MODULE = """
import numpy as np
from tests.helpers.records import arrays

def load(count=24, seed=7, names=()):
    found = arrays(count, (4, 5, 3), 3, seed)
    return found | ({"classes": names} if names else {})

def channels_first():
    found = load()
    return found | {name: np.ascontiguousarray(found[name].transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
                    for name in ("x_train", "x_test")}

def raises():
    raise OSError("the share is\\nnot mounted")

def nothing():
    return None

def four():
    return tuple(load().values())

def floats():
    return {name: value / 255 for name, value in load().items()}

def fewer():
    return {"x_train": 1}

class Lazy(dict):
    def __getitem__(self, name):
        raise KeyError(name) if name == "y_test" else ValueError("cut")

def lazy():
    return Lazy(load())

def leaves():
    raise SystemExit(3)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of one's own in the folder of the command."""
    (tmp_path / "own_pictures.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "own_pictures"
    sys.modules.pop("own_pictures", None)


def source(module: str, name: str, **arguments: Any) -> PythonData:
    return PythonData(function=f"{module}:{name}", arguments=arguments)


def test_a_function_gives_the_data_set_of_its_arrays(module: str) -> None:
    assert load_dataset(source(module, "load"), trust=True).digest == held(mwm.Arrays(**SOUND)).digest
    assert load_dataset(source(module, "channels_first"), trust=True).digest == held(mwm.Arrays(**SOUND)).digest
    other = load_dataset(source(module, "load", seed=8, names=NAMES), trust=True)
    assert other.class_names == (*NAMES,)
    assert other.digest == held(mwm.Arrays(**arrays(24, (4, 5, 3), 3, 8))).digest
    assert len(load_dataset(source(module, "load", count=30), trust=True).y_train) == 30


def test_a_function_is_a_record_as_others_are(module: str) -> None:
    record = source(module, "load", seed=8, names=NAMES)
    assert decode(DatasetSpec, encode(record)) == record
    assert {record: 1}[source(module, "load", seed=8, names=NAMES)] == 1, "arguments may hold lists"
    assert download_note(record) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("raises", "own_pictures:raises: failed (OSError: the share is not mounted)"),
        ("leaves", "own_pictures:leaves: failed (SystemExit: 3)"),
        ("missing", "own_pictures:missing: cannot be imported (AttributeError: "),
        ("nothing", "own_pictures:nothing: gives a NoneType; allowed: a mapping of x_train, y_train, x_test, y_test"),
        ("four", "own_pictures:four: gives a tuple; allowed: a mapping of "),
        ("floats", "own_pictures:floats: x_train has type float64 with values from 0"),
        ("fewer", "own_pictures:fewer: no y_train; allowed: a mapping of "),
        ("lazy", "own_pictures:lazy: x_train is no array; allowed: what NumPy makes an array of (cut)"),
    ],
)
def test_a_mistake_in_a_function_is_one_line(name: str, fault: str, module: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load_dataset(source(module, name), trust=True)
    assert str(caught.value).startswith(fault)
    assert len(str(caught.value).splitlines()) == 1


def test_arguments_that_a_function_does_not_take_are_one_line(module: str) -> None:
    with pytest.raises(ValueError, match=r"^own_pictures:load: failed \(TypeError: .*size"):
        load_dataset(source(module, "load", size=3), trust=True)


def test_the_code_of_a_function_runs_where_it_is_trusted_alone(module: str) -> None:
    with pytest.raises(
        ValueError, match=r"^data\.function: own_pictures:load: .* add --trust, or trust=True in Python"
    ):
        load_dataset(source(module, "load"))
    assert "own_pictures" not in sys.modules


def test_what_gives_arrays_one_after_another_is_taken_as_it_comes() -> None:
    class Stored(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return SOUND[key]

        def __iter__(self) -> Iterator[str]:
            return iter(SOUND)

        def __len__(self) -> int:
            return len(SOUND)

    assert hold_arrays("data", Stored()) == mwm.Arrays(**SOUND)
