"""The classes of a suspect in the numbers of a key: names, orders, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mwm.verification.querying.numbering import Numbering, parse_numbering
from mwm.verification.suspects.outputs import NO_CLASS, parse_outputs

NAMES = ("airplane", "bird", "cat", "polar bear")
DEER = "polar bear"


def read(came: Any, numbering: Numbering, count: int = 2) -> list[Any]:
    """What an answer says in the key's numbers: at once, and once more after it was read in another process."""
    said = parse_outputs(came, count=count, classes=len(numbering.order), who="it")
    found: list[Any] = numbering.read(said, "it").tolist()
    again = parse_outputs(said, count=count, classes=len(numbering.order), who="it")
    assert numbering.read(again, "it").tolist() == found
    return found


LABELS = [
    [DEER, "cat"],
    {"predictions": ["Polar_Bear", "CAT"]},
    [[DEER], ["cat"]],
    [[DEER, "bird"], ["cat", "bird"]],
    ["3", "2"],
    ["LABEL_3", "label_2"],
    [{"label": DEER}, {"label": "cat"}],
    {"columns": ["label"], "data": [[DEER], ["cat"]]},
    np.array([DEER, "cat"]),
    pd.Series([DEER, "cat"]),
    pd.DataFrame({"class": [DEER, "cat"]}),
]


@pytest.mark.parametrize("came", LABELS, ids=range(len(LABELS)))
def test_names_are_classes(came: Any) -> None:
    assert read(came, parse_numbering(None, 4, NAMES)) == [3, 2]


ROWS = [
    [{"label": DEER, "score": 0.9}, {"label": "cat", "score": 0.7}],
    [[{"label": DEER, "score": 0.9}], [{"label": "cat", "score": 0.7}, {"label": "whale", "score": 0.1}]],
    {"predictions": [{"label": DEER, "probability": 0.9}, {"label": "cat", "probability": 0.7}]},
    {"label": [DEER, "cat"], "score": [0.9, 0.7]},
    [[DEER, 0.9], ["cat", 0.7]],
    [[("n1", DEER, 0.9)], [("n2", "cat", 0.7)]],
    [{DEER: 0.9}, {"cat": 0.7, "bird": 0}],
    pd.DataFrame({"label": [DEER, "cat"], "score": [0.9, 0.7]}),
]


@pytest.mark.parametrize("came", ROWS, ids=range(len(ROWS)))
def test_names_with_scores_are_scores_of_classes(came: Any) -> None:
    assert read(came, parse_numbering(None, 4, NAMES)) == [[0, 0, 0, 0.9], [0, 0, 0.7, 0]]


@pytest.mark.parametrize(
    "came",
    [
        [{DEER: 4.0, "cat": 3.0, "bird": 2.0, "airplane": 1.0}] * 2,
        pd.DataFrame([[4.0, 3, 2, 1]] * 2, columns=[DEER, "cat", "bird", "airplane"]),
        {"columns": [DEER, "cat", "bird", "airplane"], "data": [[4.0, 3, 2, 1]] * 2},
    ],
)
def test_columns_are_put_in_the_order_of_their_names(came: Any) -> None:
    assert read(came, parse_numbering(None, 4, NAMES)) == [[1, 2, 3, 4]] * 2


def test_what_is_not_listed_comes_after_what_is() -> None:
    usual = parse_numbering(None, 4, NAMES)
    assert read([{"cat": -3.0, DEER: -1.0}], usual, count=1) == [[-4, -4, -3, -1]]


def test_names_that_the_key_has_not_are_no_class() -> None:
    assert read([DEER, "whale"], parse_numbering(None, 4, NAMES)) == [3, NO_CLASS]
    assert read(["9", ""], parse_numbering(None, 4, NAMES)) == [NO_CLASS] * 2


def test_a_key_without_names_needs_them() -> None:
    with pytest.raises(ValueError, match=r"^it: answers with names such as 'cat', and the key has none: say by"):
        read(["cat", "cat"], parse_numbering(None, 4))
    assert read([DEER, "cat"], parse_numbering(f"cat,{DEER},a,b", 4)) == [1, 0]
    assert read([{"a": 1, "b": 2, "c": 3, "d": 4}] * 2, parse_numbering(None, 4)) == [[1, 2, 3, 4]] * 2


def test_other_orders(tmp_path: Path) -> None:
    listed = f"{DEER},cat,bird,airplane"
    (tmp_path / "classes.txt").write_text(listed.replace(",", "\n") + "\n", "utf-8")
    for said in (listed, "3,2,1,0", str(tmp_path / "classes.txt")):
        order = parse_numbering(said, 4, NAMES)
        assert read([0, 3], order) == [3, 0]
        assert read([[1.0, 2, 3, 4]] * 2, order) == [[4, 3, 2, 1]] * 2
        assert read([DEER, "cat"], order) == [3, 2], "a name says itself which class it is"
    assert read([1, 4, 0, 5], parse_numbering("from-1", 4), count=4) == [0, 3, NO_CLASS, NO_CLASS]
    assert parse_numbering(",".join(map(str, range(999, -1, -1))), 1000).order == tuple(range(999, -1, -1))
    assert parse_numbering("text", 12).order == (0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)
    assert parse_numbering("number", 12).order == (0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3)
    numbers = ("0", "1", "10", "2")
    assert parse_numbering("number", 4, numbers).order == (0, 1, 3, 2)
    assert parse_numbering("0,1,2,10", 4, numbers).order == (0, 1, 3, 2)


def test_more_classes_than_the_key_has() -> None:
    order = parse_numbering(f"background,{DEER},cat,bird,airplane", 4, NAMES)
    assert read([0, 1], order) == [NO_CLASS, 3]
    assert read([[9.0, 1, 2, 3, 4]] * 2, order) == [[4, 3, 2, 1]] * 2


@pytest.mark.parametrize("said", ["0,1", "0,1,2,9", f"{DEER},cat", f"{DEER},cat,bird,whale", "", "numbers", "1,2,3,4"])
def test_other_orders_are_refused_in_one_line(said: str) -> None:
    with pytest.raises(ValueError, match=r"^classes: .* is not allowed; allowed: each of the key's 4 classes") as told:
        parse_numbering(said, 4, NAMES)
    assert repr(said) in str(told.value)


def test_what_is_named_twice_or_cannot_be_sorted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes: '2' is named twice"):
        parse_numbering("0,1,2,2", 4, NAMES)
    with pytest.raises(ValueError, match="classes: number is not allowed: 'airplane' is no number"):
        parse_numbering("number", 4, NAMES)
    with pytest.raises(ValueError, match=r"classes: .* is not allowed"):
        parse_numbering(str(tmp_path), 4, NAMES)
    (tmp_path / "latin").write_bytes(b"Fl\xfcgel")
    with pytest.raises(ValueError, match=r"classes: .* cannot be read"):
        parse_numbering(str(tmp_path / "latin"), 4, NAMES)
