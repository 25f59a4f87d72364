"""From answers to ranks: exact by labels, never harmed by scores, and the same at once as one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.stats import binomial
from mwm.verification.querying.answer_log import Answers
from mwm.verification.querying.order import OrderedQueries, order_queries
from mwm.verification.verify import verify
from mwm.verification.weighing import Progress, weigh_answers
from tests.helpers.verifying import CLASSES, random_key, recalling

Labels = NDArray[np.int64]


def said(asked: OrderedQueries, *, copied: float = 0.5, seed: int = 0) -> NDArray[np.float64]:
    """Scores (m C) of a network that knows the true class and, of some images, a little of the secret label."""
    drawn = np.random.default_rng(seed)
    scores, rows = drawn.normal(size=(len(asked), asked.classes)), np.arange(len(asked))
    scores[rows, asked.truth[asked.places]] += 2.5
    scores[rows, asked.labels[asked.places]] += 2.5 * (drawn.random(len(asked)) < copied)
    return scores


def by_labels(scores: NDArray[np.float64]) -> Answers:
    return Answers(scores.argmax(1), None)


def by_scores(scores: NDArray[np.float64]) -> Answers:
    return Answers(scores.argmax(1), scores)


@pytest.mark.parametrize("copied", [0.0, 0.2, 0.5, 1.0])
def test_labels_alone_are_binomial_among_the_wrong_answers(copied: float) -> None:
    key = random_key(40, classes=6)
    asked = order_queries(key, None, 0)
    answers = by_labels(said(asked, copied=copied)).labels
    matches, wrong = int((answers == asked.labels).sum()), int((answers != asked.truth).sum())
    exact = binomial.p_value(matches, wrong, 6)
    assert weigh_answers(asked, Answers(answers, None)).p_value == pytest.approx(exact, rel=1e-9)
    (found,) = verify(key, recalling(asked, answers)).suspects
    assert (found.form, found.wrong_answers, found.matches) == ("labels", wrong, matches)
    assert found.p_value == found.p_labels == pytest.approx(exact, rel=1e-9)
    assert found.log10_p == pytest.approx(binomial.log10_p(matches, wrong, 6))
    assert found.p_scores is None


def test_doctored_scores_beside_honest_labels_cost_a_factor_of_two() -> None:
    """All but the first choice is turned round, so that secret labels that are not first come late."""
    key = random_key(40, classes=6)
    asked = order_queries(key, None, 0)
    honest = said(asked, copied=1.0)
    doctored = -honest
    doctored[np.arange(len(asked)), honest.argmax(1)] = 10.0
    labels, scores, both = (
        verify(key, recalling(asked, one)).suspects[0] for one in (honest.argmax(1), honest, doctored)
    )
    assert both.p_scores is not None
    assert labels.p_labels is not None
    assert both.p_scores > labels.p_labels, "scores were doctored for nothing"
    assert both.p_value == 2 * labels.p_labels == 2 * labels.p_value
    assert scores.p_value < labels.p_value, "honest scores say more"
    assert both.decision == labels.decision == "proven"


@pytest.mark.parametrize("form", [by_labels, by_scores])
@pytest.mark.parametrize("controlled", [False, True])
def test_an_image_without_an_answer_is_as_if_it_were_not_there(form: Any, controlled: bool) -> None:
    """Of three images of each cell one is silent, of the suspect or of the control: the other two remain."""
    three = order_queries(random_key(8, per_cell=3), None, 0)
    scores, others = said(three), said(three, copied=0.0, seed=1)
    rest = np.arange(len(three)) % 3 != 1
    two = OrderedQueries(
        numbers=[number for number, stays in zip(three.numbers, rest, strict=True) if stays],
        images=three.images[rest],
        places=three.places[rest],
        **{name: getattr(three, name) for name in ("cells", "labels", "truth", "classes")},
    )
    control, fewer = (form(others), form(others[rest])) if controlled else (None, None)
    expected = weigh_answers(two, form(scores[rest]), fewer)
    assert weigh_answers(three, silenced(form(scores), ~rest), control) == expected
    if control is not None:
        assert weigh_answers(three, form(scores), silenced(control, ~rest)) == expected


def silenced(answers: Answers, silent: NDArray[np.bool_]) -> Answers:
    """Answers of which some did not come."""
    scores = None if answers.scores is None else np.where(silent[:, None], 1 / CLASSES, answers.scores)
    return Answers(np.where(silent, -1, answers.labels), scores)


def test_a_cell_without_any_answer_tells_nothing() -> None:
    asked = order_queries(random_key(8, per_cell=3), None, 0)
    mute = asked.places < 3
    for form in (by_labels, by_scores):
        answers = silenced(form(said(asked)), mute)
        for control in (None, form(said(asked, seed=2))):
            evidence = weigh_answers(asked, answers, control)
            for ranks in evidence.forms:
                assert {cell.ties for cell in ranks[:3]} == {(CLASSES - 1,)}
            spoken = slice(int(mute.sum()), None)
            rest = weigh_answers(asked.part(3, 8), answers.part(spoken), control and control.part(spoken))
            assert evidence.p_value == pytest.approx(rest.p_value, rel=1e-9)


def test_what_is_left_out_does_not_depend_on_secret_labels() -> None:
    """The same answers to the same images under another secret: the same scores of each class, other ranks."""
    asked = order_queries(random_key(30), None, 0)
    answers = silenced(by_scores(said(asked)), np.arange(30) % 4 == 0)
    moved = (asked.labels + 1 + (asked.labels + 1 == asked.truth)) % CLASSES
    moved = np.where(moved == asked.truth, (moved + 1) % CLASSES, moved)
    other = OrderedQueries(
        labels=moved, **{name: getattr(asked, name) for name in OrderedQueries.__slots__ if name != "labels"}
    )
    one, two = weigh_answers(asked, answers), weigh_answers(other, answers)
    for mine, theirs in zip(one.forms, two.forms, strict=True):
        assert [cell.ties for cell in mine] == [cell.ties for cell in theirs]
        assert mine != theirs


def test_chances_and_their_logits_are_worth_the_same() -> None:
    """Row by row: a mean over the views of an image does not depend on what other rows look like."""
    asked = order_queries(random_key(12, per_cell=4), None, 0)
    logits = said(asked)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mixed = np.where(np.arange(len(asked))[:, None] % 3, logits, chances)
    assert weigh_answers(asked, by_scores(chances)) == weigh_answers(asked, by_scores(logits))
    assert weigh_answers(asked, by_scores(mixed)) == weigh_answers(asked, by_scores(logits))


@pytest.mark.parametrize("step", [1, 2, 5, 7, 100])
@pytest.mark.parametrize("form", [by_labels, by_scores])
def test_one_after_another_is_all_at_once(form: Any, step: int) -> None:
    for per_cell, views, controlled in ((1, 1, False), (3, 1, True), (1, 2, False), (2, 3, True)):
        asked = order_queries(random_key(9, per_cell=per_cell), None, 0, views=views)
        answers = silenced(form(said(asked)), np.arange(len(asked)) < 4)
        control = form(said(asked, copied=0.0, seed=3)) if controlled else None
        progress, done = Progress(asked, control), 0
        while done < len(asked):
            done = min(done + step, len(asked))
            test = progress.follow(told(answers, done))
            assert test.cells == asked.whole(done)
        whole = weigh_answers(asked, answers, control).sequential(CLASSES)
        assert (test.cells, test.p_value) == (9, whole.p_value)


def told(answers: Answers, done: int) -> Answers:
    """The first answers, as a log tells them: of mere silence nobody knows yet which form it has."""
    part = answers.part(slice(done))
    return Answers(part.labels, None) if (part.labels == -1).all() else part


def test_what_a_cell_is_taken_for() -> None:
    labels = np.array([3, 3, 0, 1, 2, 2, -1, -1, 99, 1])
    places = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    assert Answers(labels, None).first_choices(places, 4, CLASSES).tolist() == [3, 2, -1, 1]
    assert Answers(labels[:2], None).first_choices(places[:2], 2, CLASSES).tolist() == [3, 3], "each is its own"
    scores = np.log([[0.5, 0.4, 0.05, 0.05], [0.01, 0.9, 0.04, 0.05], [0.25] * 4, [0.25] * 4])
    found = Answers(scores.argmax(1), scores).first_choices(np.array([0, 0, 1, 1]), 2, CLASSES)
    assert found.tolist() == [1, -1], "the mean, and nothing where all are level"
