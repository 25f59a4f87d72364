"""Suspects behind HTTP: what is asked and what may be answered, in both protocols."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mwm.verification.suspects import NoAnswerError
from mwm.verification.suspects.presentation import UNIT_RANGE
from tests.helpers.http import Asked, Reply, answering
from tests.helpers.suspected import CLASSES, IMAGES, labels, network, opened, scores

SCORES = scores(network())
LABELS = SCORES.argmax(1)
RIGHT = Reply({"labels": LABELS.tolist()})
TABLE = [{"3": d, "0": a, "2": c, "1": b} for a, b, c, d in SCORES.tolist()]


PLAIN = [
    RIGHT,
    Reply({"labels": LABELS.astype(float).tolist()}),
    Reply({"logits": SCORES.tolist()}),
    Reply({"probabilities": (np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)).tolist()}),
    Reply({"labels": [0] * len(IMAGES), "logits": SCORES.tolist()}, headers={"X-Any": "thing"}),
]


@pytest.mark.parametrize("reply", PLAIN, ids=["labels", "floats", "logits", "probabilities", "both"])
def test_the_plain_protocol(reply: Reply) -> None:
    with answering(reply) as server:
        suspect = opened(server.uri + "/v1/classify?model=a")
        assert np.array_equal(labels(suspect), LABELS)
    assert (suspect.access, suspect.name) == ("endpoint", server.uri + "/v1/classify?***")
    (asked,) = server.asked
    assert asked.path == "/v1/classify?model=a"
    assert np.array_equal(asked.images.astype(np.float32), IMAGES.astype(np.float32) / np.float32(255))


def test_scores_come_as_they_were_said() -> None:
    with answering(Reply({"logits": SCORES.tolist()})) as server:
        assert np.array_equal(opened(server.uri)(IMAGES), SCORES)


MLFLOW = {
    "labels": {"predictions": LABELS.tolist()},
    "column": {"predictions": LABELS[:, None].tolist()},
    "matrix": {"predictions": SCORES.tolist()},
    "rows": {"predictions": TABLE},
    "named rows": {"predictions": [{"label": int(label)} for label in LABELS]},
    "one output": {"predictions": {"logits": SCORES.tolist()}},
    "two outputs": {"predictions": {"labels": LABELS.tolist(), "logits": SCORES.tolist()}},
    "split": {"predictions": {"columns": list(range(CLASSES)), "index": list(range(23)), "data": SCORES.tolist()}},
    "bare": SCORES.tolist(),
    "more": {"predictions": LABELS.tolist(), "id": "x"},
}


@pytest.mark.parametrize("form", MLFLOW)
def test_every_form_of_mlflows_answers(form: str) -> None:
    with answering(Reply(MLFLOW[form])) as server:
        assert np.array_equal(labels(opened(server.uri + "/some/invocations/")), LABELS)


def test_every_grey_level_arrives_exactly() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    said = np.array(json.loads(json.dumps(UNIT_RANGE.as_decimals(levels).tolist())), np.float32)
    assert np.array_equal(said, levels.astype(np.float32) / np.float32(255))


NUMBERS = f"needed: {len(IMAGES)} class indices, or scores ({len(IMAGES)}, {CLASSES})"
UNUSABLE = {
    "no JSON": (b"<html>busy</html>", "17 bytes that are no JSON"),
    "half": (b'{"labels": [1, 2', "no JSON"),
    "nothing": (b"", "0 bytes"),
    "nested": (b'{"labels": ' * 900 + b"1" + b"}" * 900, f"shape (); {NUMBERS}"),
    "long name": ({"labels": [{"9" * 5000: 1, "8": 2, "7": 3, "6": 4}] * len(IMAGES)}, "labels of shape (23, 4)"),
    "no UTF-8": (b'{"labels": ["\xff"]}', "no JSON"),
    "deep": (b"[" * 10**6, "no JSON"),
    "long number": (b'{"labels": [' + b"9" * 5000 + b"]}", "no JSON"),
    "other keys": ({"colour": "red", "size": 1}, "colour, size; needed: one of logits, probabilities, probs, scores, "),
    "no keys": ({}, "nothing; needed: one of logits"),
    "a list": ([1, 2], f"shape (2,); {NUMBERS}"),
    "a string": ("no model is loaded", "an error: no model is loaded"),
    "too few": ({"labels": LABELS[1:].tolist()}, f"shape (22,); {NUMBERS}"),
    "too many": ({"labels": [*LABELS.tolist(), 1]}, f"shape (24,); {NUMBERS}"),
    "one": ({"labels": 3}, f"shape (); {NUMBERS}"),
    "none at all": ({"labels": []}, f"shape (0,); {NUMBERS}"),
    "null": ({"labels": None}, "a NoneType that holds no such numbers"),
    "truths": ({"labels": [True] * len(IMAGES)}, "no such numbers"),
    "objects": ({"labels": [{}] * len(IMAGES)}, "no such numbers"),
    "ragged": ({"logits": [[1.0] * CLASSES] * (len(IMAGES) - 1) + [[1.0]]}, "no such numbers"),
    "three axes": ({"logits": [SCORES.tolist()]}, f"shape (1, 23, 4); {NUMBERS}"),
    "halves": ({"labels": [0.5] * len(IMAGES)}, f"0.5, which is no class index; {NUMBERS}"),
    "beyond": ({"labels": [1e300] * len(IMAGES)}, "no class index"),
    "huge": ({"labels": [2**63] * len(IMAGES)}, "no class index"),
    "infinite": ({"labels": [math.inf] * len(IMAGES)}, "no class index"),
    "NaN": ({"logits": [[math.nan] * CLASSES] * len(IMAGES)}, f"NaN; {NUMBERS}"),
    "labels as scores": ({"labels": SCORES.tolist()}, "labels of shape (23, 4)"),
    "scores as labels": ({"logits": LABELS.tolist()}, "logits of shape (23,)"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_told_at_once(case: str) -> None:
    content, words = UNUSABLE[case]
    with answering(Reply(content)) as server, pytest.raises(NoAnswerError) as told:
        opened(server.uri)(IMAGES)
    assert words in str(told.value)
    assert str(told.value).startswith(server.uri + ": answered with ")
    assert "\n" not in str(told.value)
    assert told.value.permanent
    assert len(server.asked) == 1, "what is wrong stays wrong"


def test_other_classes_are_a_mistake_of_the_users() -> None:
    other, words = Reply({"logits": [[0.5] * 7] * len(IMAGES)}), "answers with scores of 7 classes, the key has 4"
    with answering(other) as server, pytest.raises(ValueError, match=words):
        opened(server.uri)(IMAGES)


def test_any_class_index_is_an_answer() -> None:
    strange = [10**9, -1, *LABELS.tolist()[2:]]
    with answering(Reply({"labels": strange})) as server:
        assert opened(server.uri)(IMAGES).tolist() == strange


def test_random_labels_are_answers_like_any_other() -> None:
    chance = np.random.default_rng(3)

    def guess(asked: Asked) -> Reply:
        return Reply({"labels": chance.integers(0, CLASSES, len(asked.images)).tolist()})

    with answering(guess) as server:
        suspect = opened(server.uri)
        first, second = suspect(IMAGES), suspect(IMAGES)
    assert not np.array_equal(first, second)
    assert not any(np.isin(said, range(CLASSES), invert=True).any() for said in (first, second))
