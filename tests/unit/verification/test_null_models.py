"""Null models: what they answer is counted, and one that does not answer is a mistake."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.verification.null_models import ask_null_models
from mwm.verification.suspects import open_suspect
from tests.helpers.verifying import CLASSES, SHAPE, questions

ASKED = questions(20)


def true_labels(images: NDArray[np.float32]) -> NDArray[np.int64]:
    return ASKED.truth[: len(images)]


def secret_scores(images: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.eye(CLASSES)[ASKED.labels[: len(images)]]


def away(images: NDArray[np.float32]) -> None:
    raise OSError("gone")


def test_each_model_is_counted_by_itself() -> None:
    models = [open_suspect(one, shape=SHAPE, classes=CLASSES) for one in (true_labels, secret_scores)]
    found = ask_null_models(models, ASKED)
    assert found.identities == [model.identity for model in models]
    assert found.choices.dtype == np.int64
    assert found.choices.tolist() == [ASKED.truth.tolist(), ASKED.labels.tolist()]
    assert found.matches(ASKED.labels) == [0, 20]
    assert found.matches(ASKED.labels[:7]) == [0, 7]


def test_one_that_does_not_answer_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"^null_models: away in memory: failed on images .*gone"):
        ask_null_models([open_suspect(away, shape=SHAPE, classes=CLASSES)], ASKED)
