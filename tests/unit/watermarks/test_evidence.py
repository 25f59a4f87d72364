"""From answers of every form to ranks and one p-value: votes, cells, a control, and what nobody can gain or hide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mwm.stats import binomial
from mwm.stats.rank_sum import rank_labels
from mwm.stats.sequential import SequentialTest
from mwm.watermarks.evidence import LEAST_CHANCE, Evidence, log_probabilities, weigh
from tests.unit.stats.conftest import draws, share

Array = NDArray[Any]
LEVELS = (0.5, 0.2, 0.05, 1e-3)


def key(seed: int, cells: int, classes: int) -> tuple[Array, Array]:
    """Labels and truth of a random key."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, cells)
    return (truth + rng.integers(1, classes, cells)) % classes, truth


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed + 1000).normal(size=shape)


def softmax(logits: Array) -> Array:
    chances = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = chances / chances.sum(1, keepdims=True)
    return found


def plain(p: float) -> float:
    return float(f"{p:.10e}")


# Labels and scores of single images


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(3, 15))
def test_labels_alone_are_binomial_among_the_wrong_answers(seed: int, cells: int, classes: int) -> None:
    labels, truth = key(seed, cells, classes)
    answers = np.random.default_rng(seed).integers(-1, classes + 1, cells)
    found = weigh(answers, labels, truth, classes=classes)
    wrong = int(((answers != truth) & (answers >= 0) & (answers < classes)).sum())
    matches = int((answers == labels).sum())
    expected = binomial.p_value(matches, wrong, classes) if wrong else 1.0
    assert found.scores is None
    assert found.wrong_answers == wrong
    assert found.p_value == pytest.approx(expected, rel=1e-11)
    assert found.log10_p == pytest.approx(math.log10(expected), rel=1e-11, abs=1e-11)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(3, 15))
def test_scores_decide_at_twice_the_smaller_p(seed: int, cells: int, classes: int) -> None:
    labels, truth = key(seed, cells, classes)
    scores = normal(seed, cells, classes)
    found = weigh(scores, labels, truth, classes=classes)
    assert found.scores == rank_labels(scores, labels, truth)
    assert found.labels == weigh(scores.argmax(1), labels, truth, classes=classes).labels
    assert found.forms == (found.labels, found.scores)
    smaller = min(found.labels.p_value, found.scores.p_value)
    assert found.p_value == min(1, 2 * smaller)
    assert found.log10_p == pytest.approx(min(0, math.log10(2 * smaller)), abs=1e-10)
    assert found.mean_rank == found.scores.mean


def test_logarithm_tells_what_no_float_can_hold() -> None:
    labels, truth = key(0, 400, 10)
    for answers, lost in ((labels, 0.0), (np.eye(10)[labels], math.log10(2))):
        found = weigh(answers, labels, truth, classes=10)
        assert found.p_value == 0
        assert found.log10_p == pytest.approx(lost - 400 * math.log10(9), rel=1e-12)


def test_the_best_of_a_long_list_is_ranked_and_the_rest_is_tied() -> None:
    """Three classes are listed: by -inf, or chances of 0; the seven others share one rank."""
    labels, truth = key(1, 60, 10)
    logits = normal(1, 60, 10)
    kept = logits >= np.sort(logits, 1)[:, -3:][:, :1]
    by_logits = weigh(np.where(kept, logits, -np.inf), labels, truth, classes=10)
    by_chances = weigh(np.where(kept, softmax(logits), 0), labels, truth, classes=10)
    assert by_logits == by_chances
    assert by_logits.scores is not None
    assert {cell.ties for cell in by_logits.scores} == {(1, 1, 7), (1, 1, 1, 6)}, "the true class is listed, or not"


def test_what_was_not_answered_tells_nothing() -> None:
    labels, truth = key(2, 40, 10)
    scores = normal(2, 40, 10)
    scores[25:] = 0.1
    found, answered = (weigh(scores[:end], labels[:end], truth[:end], classes=10) for end in (40, 25))
    assert found.wrong_answers == answered.wrong_answers
    assert found.p_value == answered.p_value
    silent = weigh(np.full(40, -1), labels, truth, classes=10)
    assert (silent.p_value, silent.log10_p, silent.mean_rank, silent.wrong_answers) == (1.0, 0.0, 0.5, 0)


# Votes and cells


def test_labels_of_several_images_are_votes() -> None:
    labels, truth = key(3, 12, 6)
    answers = np.random.default_rng(3).integers(-1, 7, 60)
    cells = np.random.default_rng(4).permutation(np.repeat(np.arange(12), 5))
    votes = np.zeros((12, 6))
    for answer, cell in zip(answers, cells, strict=True):
        if 0 <= answer < 6:
            votes[cell, answer] += 1
    found = weigh(answers, labels, truth, classes=6, cells=cells)
    assert found == Evidence(rank_labels(votes, labels, truth), None)
    ordered = cells.argsort(kind="stable")
    assert weigh(answers[ordered], labels, truth, classes=6, cells=cells[ordered]) == found, "order does not count"


def test_votes_may_prove_what_first_choices_hide() -> None:
    """Images that are read rightly, with a few views that give the secret label away."""
    labels, truth = key(4, 30, 10)
    answers = np.repeat(truth[:, None], 8, axis=1)
    assert weigh(answers[:, 0], labels, truth, classes=10).p_value == 1
    answers[:15, 3] = labels[:15]
    answers[15:, 5] = (truth[15:] + 1) % 10
    found = weigh(answers.reshape(-1), labels, truth, classes=10, cells=np.repeat(np.arange(30), 8))
    assert found.p_value < 1e-7


@pytest.mark.parametrize("given_as", ["logits", "shifted", "chances"])
def test_scores_of_several_images_are_mean_log_probabilities(given_as: str) -> None:
    labels, truth = key(5, 10, 7)
    logits = 2 * normal(5, 40, 7)
    cells = np.repeat(np.arange(10), 4)
    means = np.log(softmax(logits)).reshape(10, 4, 7).mean(1)
    answers = {"logits": logits, "shifted": logits - 50, "chances": softmax(logits)}[given_as]
    found = weigh(answers, labels, truth, classes=7, cells=cells)
    assert found.scores == rank_labels(means, labels, truth)
    assert found.labels == weigh(logits.argmax(1), labels, truth, classes=7, cells=cells).labels


def test_a_chance_of_nothing_does_not_outweigh_all_others() -> None:
    chances = np.array([[0.5, 0.0, 0.3, 0.2]] + [[0.2, 0.7, 0.05, 0.05]] * 9)
    assert np.isclose(log_probabilities(chances)[0, 1], math.log(LEAST_CHANCE))
    found = weigh(chances, np.array([1]), np.array([0]), classes=4, cells=np.zeros(10, int))
    assert found.scores is not None
    assert found.scores[0].doubled == 0


def test_class_cells_are_judged_like_any_other() -> None:
    _, truth = key(6, 200, 10)
    own = np.arange(10)
    secret = (own + np.random.default_rng(6).integers(1, 10, 10)) % 10
    scores = 3 * np.eye(10)[truth] + normal(6, 200, 10)
    assert weigh(scores, secret, own, classes=10, cells=truth).p_value > 1e-3
    scores += 2 * np.eye(10)[secret[truth]]
    found = weigh(scores, secret, own, classes=10, cells=truth)
    assert found.scores is not None
    assert found.scores.log10_p == pytest.approx(-10 * math.log10(9)), "the least that ten cells can show"


# Control


def test_a_control_that_answers_alike_leaves_nothing() -> None:
    labels, truth = key(7, 50, 10)
    scores = normal(7, 50, 10)
    for suspect in (scores, scores.argmax(1)):
        assert weigh(suspect, labels, truth, classes=10, control=scores).p_value == 1


def test_a_control_takes_natural_confusions_out() -> None:
    labels, truth = key(8, 60, 10)
    confusions = softmax(2 * normal(8, 60, 10))
    suspect = 0.95 * confusions + 0.05 * np.eye(10)[labels]
    alone = weigh(suspect, labels, truth, classes=10)
    controlled = weigh(
        suspect, labels, truth, classes=10, control=softmax(np.log(confusions) + 0.1 * normal(9, 60, 10))
    )
    assert controlled.log10_p < alone.log10_p - 10


def test_a_control_is_subtracted_form_by_form() -> None:
    labels, truth = key(9, 15, 6)
    scores, control = normal(11, 60, 6), normal(12, 60, 6)
    cells = np.repeat(np.arange(15), 4)
    found = weigh(scores, labels, truth, classes=6, cells=cells, control=control)
    chances = [softmax(one).reshape(15, 4, 6).mean(1) for one in (scores, control)]
    votes = [np.eye(6)[one.argmax(1)].reshape(15, 4, 6).sum(1) for one in (scores, control)]
    assert found == Evidence(
        rank_labels(votes[0] - votes[1], labels, truth), rank_labels(chances[0] - chances[1], labels, truth)
    )
    by_labels = weigh(scores.argmax(1), labels, truth, classes=6, cells=cells, control=control)
    assert by_labels == Evidence(found.labels, None), "of a control that gives scores the first choices count"


def test_a_control_must_answer_as_fully_as_the_suspect() -> None:
    labels, truth = key(10, 20, 10)
    with pytest.raises(ValueError, match="control: it answers with labels, and the suspect with scores"):
        weigh(normal(1, 20, 10), labels, truth, classes=10, control=truth)


# What holds whatever is answered


def forms(seed: int) -> dict[str, dict[str, Any]]:
    """Four cells of four classes, answered in every form."""
    one, several = normal(seed, 4, 4), normal(seed + 1, 12, 4)
    cells, control = np.repeat(np.arange(4), 3), normal(seed + 2, 12, 4)
    return {
        "labels": {"answers": one.argmax(1)},
        "scores": {"answers": one},
        "rounded": {"answers": one.round()},
        "chances": {"answers": softmax(one).round(1)},
        "votes": {"answers": several.argmax(1), "cells": cells},
        "cells": {"answers": several, "cells": cells},
        "control": {"answers": one, "control": control[:4]},
        "cells and control": {"answers": several, "cells": cells, "control": control},
        "votes and control": {"answers": several.argmax(1), "cells": cells, "control": control.argmax(1)},
    }


@pytest.mark.parametrize("form", list(forms(0)))
@pytest.mark.parametrize("seed", range(3))
def test_no_independent_suspect_is_a_false_positive_too_often(form: str, seed: int) -> None:
    """Every draw of the labels: each form's p is exact, the decision keeps its level, so does the sequential test."""
    truth = np.array([0, 1, 2, 0])
    how = forms(seed)[form]
    found = [weigh(labels=np.array(labels), truth=truth, classes=4, **how) for labels in draws(truth.tolist(), 4)]
    for place in range(len(found[0].forms)):
        p = [plain(one.forms[place].p_value) for one in found]
        for attainable in set(p):
            assert float(share(p, attainable)) == pytest.approx(attainable, rel=1e-9)
    for level in LEVELS:
        assert share([one.p_value for one in found], level) <= level
        assert share([one.sequential(4).p_value for one in found], level) <= level
    ties = {tuple(cell.ties for rank_sum in one.forms for cell in rank_sum) for one in found}
    assert len(ties) == 1, "no rule looks at the labels"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["reversed", "constant", "random", "secret last"]))
def test_made_up_scores_hide_no_more_than_a_factor_of_two(seed: int, how: str) -> None:
    """Beside honest labels: even one who knew the secret labels could not do more."""
    labels, truth = key(seed, 30, 10)
    answers = np.where(np.random.default_rng(seed).random(30) < 0.4, labels, truth)
    made = normal(seed, 30, 10)
    if how == "constant":
        made[:] = 0
    elif how == "secret last":
        made[np.arange(30), labels] = -9
    elif how == "reversed":
        made = -np.eye(10)[labels]
    made[np.arange(30), answers] = 10
    honest, offered = (weigh(one, labels, truth, classes=10) for one in (answers, made))
    assert offered.labels == honest.labels
    assert offered.p_value <= 2 * honest.p_value
    assert offered.log10_p <= honest.log10_p + math.log10(2) + 1e-12


def test_beginnings_and_the_sequential_test() -> None:
    labels, truth = key(11, 25, 8)
    scores = normal(13, 25, 8) + np.eye(8)[labels]
    found = weigh(scores, labels, truth, classes=8)
    for count in (1, 10, 25):
        assert found.first(count) == weigh(scores[:count], labels[:count], truth[:count], classes=8)
    by_labels = weigh(scores.argmax(1), labels, truth, classes=8)
    assert by_labels.first(10).scores is None
    for evidence in (found, by_labels):
        test = SequentialTest(8, len(evidence.forms))
        for ranks in zip(*evidence.forms, strict=True):
            test.add(ranks)
        assert evidence.sequential(8).log_e == test.log_e
        assert evidence.sequential(8).cells == 25
