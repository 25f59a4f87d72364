"""What a suspect may answer: arrays of every kind, and anything at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from mwm.storage.redaction import describe_error
from mwm.verification.suspects.outputs import FORMS, NoAnswerError, parse_outputs

LEAVES = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=3)
KEYS = some.sampled_from(["predictions", "data", "columns", "logits", "labels", "0", "1", "10", "x"])
JSON = some.recursive(LEAVES, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEYS, inner, max_size=3))
ROWS = some.lists(some.lists(LEAVES, min_size=3, max_size=3), min_size=2, max_size=2)


def read(came: Any, count: int = 2, classes: int = 3) -> Any:
    return parse_outputs(came, count=count, classes=classes, who="it")


@given(JSON | ROWS | some.lists(LEAVES, min_size=2, max_size=2))
def test_whatever_comes_is_an_answer_or_a_line(came: Any) -> None:
    said, told = None, ""
    try:
        said = read(came)
    except (NoAnswerError, ValueError) as error:
        told = str(error)
    if said is None:
        assert told.startswith("it: answer")
        assert "\n" not in told
        return
    assert said.dtype in FORMS.values()
    assert said.shape == ((2,) if said.dtype in (FORMS["labels"], FORMS["names"]) else (2, 3))
    numbers = said["score"] if said.dtype == FORMS["ranked"] else said
    assert numbers.dtype.kind == "U" or not np.isnan(numbers).any()


@given(some.lists(some.integers(-(2**53) + 1, 2**53 - 1), min_size=1, max_size=9))
def test_labels_come_as_they_were(labels: list[int]) -> None:
    for came in (labels, np.array(labels), torch.tensor(labels), pd.Series(labels), [[label] for label in labels]):
        assert read(came, count=len(labels)).tolist() == labels
    assert read([float(label) for label in labels], count=len(labels)).tolist() == labels


SCORES = np.array([[0.5, -1.0, 2.0], [0.0, 7.0, -np.inf]])
MATRICES = [
    SCORES,
    SCORES.tolist(),
    SCORES.astype(np.float32),
    torch.tensor(SCORES, requires_grad=True),
    pd.DataFrame(SCORES),
    {"logits": SCORES, "hidden": np.zeros((2, 9))},
    [{"2": row[2], "0": row[0], "1": row[1]} for row in SCORES],
    pd.DataFrame(SCORES).to_dict("split"),
]


@pytest.mark.parametrize("came", MATRICES, ids=[str(number) for number in range(len(MATRICES))])
def test_scores_come_as_they_were(came: Any) -> None:
    said = read(came)
    assert said.dtype == np.float64
    assert np.array_equal(said, SCORES)


def test_columns_that_are_numbers_are_put_in_order() -> None:
    row = {str(index): float(index) for index in (10, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8)}
    assert read([row], count=1, classes=11).tolist() == [[float(index) for index in range(11)]]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors_with_gradients_are_read_wherever_they_are(kind: torch.dtype) -> None:
    held = torch.tensor([[0.5, -1.0, 2.0], [0.0, 7.0, 1.5]], dtype=kind, requires_grad=True)
    for came in (held, list(held), tuple(held), [list(row) for row in held], {"logits": list(held)}):
        assert read(came).tolist() == held.tolist()
    named = [{"cat": row[0], "dog": row[1], "ape": row[2]} for row in held]
    assert read(named)["score"].tolist() == held.tolist()
    assert read(list(held.argmax(1))).tolist() == [2, 1]


class Hostile:
    """An object that fails at whatever is asked of it."""

    def __array__(self, *_: object, **__: object) -> None:
        raise SystemExit("\n0")


@pytest.mark.parametrize(
    "came", [Hostile(), [Hostile()], torch.zeros(2, device="meta"), [torch.zeros(2, 3, device="meta")]]
)
def test_what_fails_when_it_is_read_is_a_line(came: Any) -> None:
    with pytest.raises(
        NoAnswerError, match=r"^it: answered with a \w+ that cannot be read \(\w+: .*\); needed: 2 class"
    ):
        read(came)


class SpeechlessError(Exception):
    """An error that fails even at saying what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_that_cannot_be_told_is_named() -> None:
    assert describe_error(SpeechlessError()) == "SpeechlessError"


@pytest.mark.parametrize("came", [np.array([1j, 2]), np.array([True, False]), object(), "12", b"12"])
def test_other_arrays_are_no_answers(came: Any) -> None:
    with pytest.raises(NoAnswerError, match="that holds no such numbers; needed: 2 class indices, or scores"):
        read(came)
