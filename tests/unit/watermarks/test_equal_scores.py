"""Answers of equal scores name no class: in the sweep and in verification alike, and every p-value stays exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mwm.models import detection
from mwm.training.evaluation import accuracy, first_choices
from mwm.verification.null_models import ask_null_models
from mwm.verification.suspects import open_suspect
from mwm.watermarks import evidence
from mwm.watermarks.evidence import weigh
from tests.helpers import verifying
from tests.helpers.verifying import questions
from tests.unit.stats.conftest import draws, share

CLASSES, TRUTH = 4, (0, 3, 0, 1, 2)
Array = NDArray[Any]


def answers(seed: int, silent: tuple[int, ...]) -> Array:
    """Scores of five cells, equal in those that are silent; some others hold ties."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (len(TRUTH), CLASSES)).astype(float)
    scores[[*silent]] = rng.normal()
    return scores


@pytest.mark.parametrize("silent", [(0,), (1, 3), (0, 1, 2), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_each_p_value_is_the_share_of_draws_that_reach_it(seed: int, silent: tuple[int, ...]) -> None:
    """Of all labels that might have been drawn, however the suspect chose what to be silent about."""
    scores, truth = answers(seed, silent), np.array(TRUTH)
    found = [weigh(scores, np.array(labels), truth, classes=CLASSES) for labels in draws(TRUTH, CLASSES)]
    for form in ("labels", "scores"):
        values = [getattr(one, form).p_value for one in found]
        for value in sorted({*values}):
            assert value == pytest.approx(float(share(values, value + 1e-12)), rel=1e-9)
    if len(silent) == len(TRUTH):
        assert {one.p_value for one in found} == {1.0}


@pytest.mark.parametrize("level", [-3.5, 0.0, 1 / CLASSES])
def test_silence_is_worth_as_much_as_a_cell_that_was_never_asked(level: float) -> None:
    truth, labels = np.array(TRUTH), (np.array(TRUTH) + 1) % CLASSES
    scores = answers(0, ())
    scores[:2] = level
    found, rest = (weigh(scores[a:], labels[a:], truth[a:], classes=CLASSES) for a in (0, 2))
    assert found.labels.p_value == rest.labels.p_value
    assert found.scores is not None
    assert rest.scores is not None
    assert found.scores.p_value == pytest.approx(rest.scores.p_value, rel=1e-12)
    named = evidence.first_choices(scores)
    assert named[:2].tolist() == [-1, -1]
    assert weigh(named, labels, truth, classes=CLASSES).labels == found.labels


def test_the_sweep_and_verification_read_first_choices_alike() -> None:
    scores = np.array([[0, 0, 0], [2, 2, 1], [1, 3, 3], [-1, -1, -1], [5, 0, 0]], np.float32)
    expected = [-1, 0, 1, -1, 0]
    assert first_choices(torch.from_numpy(scores)).tolist() == expected
    assert detection.first_choices(torch.from_numpy(scores)).tolist() == expected
    assert evidence.first_choices(scores).tolist() == expected
    assert evidence.first_choices(np.array([3, -1, 0])).tolist() == [3, -1, 0]


def test_a_refusal_is_right_of_no_image() -> None:
    answers = torch.tensor([[0.0, 0, 0], [9, 1, 0], [0, 0, 0], [0, 1, 9]])
    assert accuracy(answers, torch.tensor([0, 0, 1, 2])) == 0.5
    assert accuracy(torch.zeros(6, 3), torch.zeros(6, dtype=torch.int64)) == 0


def test_a_null_model_that_is_silent_matches_nothing() -> None:
    asked = questions(20)

    def silent(images: NDArray[np.float32]) -> Array:
        return np.zeros((len(images), verifying.CLASSES))

    found = ask_null_models([open_suspect(silent, shape=verifying.SHAPE, classes=verifying.CLASSES)], asked)
    assert found.matches(asked.labels) == found.matches(asked.truth) == [0]
    assert (found.labels == -1).all()
