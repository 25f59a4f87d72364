"""Suspects judged in a form: what is logged, what is judged, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mwm.config.randomness import make_generator
from mwm.models.answers import (
    FormRecord,
    GaussianNoise,
    ReverseSigmoid,
    Rounding,
    Temperature,
    TopK,
    form_words,
    shaped,
)
from mwm.verification.answer_forms import AnswerForms, log_chances, parse_answer_forms
from mwm.verification.querying.answer_log import ANSWERS, Answers
from mwm.verification.querying.order import OrderedQueries, order_queries
from mwm.verification.report.page import html_report
from mwm.verification.suspects.outputs import NO_ANSWER, NO_CLASS
from mwm.verification.verify import verify
from mwm.watermarks.key import load_key
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.pages import Page
from tests.helpers.verifying import VerificationCase, answers, random_key, recalling

KEY = random_key(30, classes=6)
CELLS = random_key(24, per_cell=3, classes=6)
FORMS: list[FormRecord] = [
    *(TopK(k=2), TopK(k=3, renormalize=True), Rounding(digits=2), Temperature(temperature=1.25)),
    *(ReverseSigmoid(beta=0.5, gamma=1.5), GaussianNoise(deviation=0.012)),
]

TURNED: list[FormRecord] = [Temperature(temperature=0.5), ReverseSigmoid(beta=1.6, gamma=1.0)]
"""Forms after which other classes come first."""


def scored(asked: OrderedQueries, copied: float = 2.0) -> NDArray[np.float64]:
    """Logits (m C) of a copy that answers truly, with the secret label often behind."""
    logits = np.random.default_rng(3).normal(size=(len(asked), asked.classes))
    logits[np.arange(len(asked)), asked.labels[asked.places]] += copied
    logits[np.arange(len(asked)), asked.truth[asked.places]] += 4.0
    return logits


def chances(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.exp(scores - scores.max(1, keepdims=True))
    whole: NDArray[np.float64] = found / found.sum(1, keepdims=True)
    return whole


def told(verdict: Any) -> tuple[Any, ...]:
    (one,) = verdict.suspects
    return one.form, one.p_labels, one.p_scores, one.mean_rank, one.matches, one.right, one.secret_first


@given(st.lists(st.sampled_from(FORMS), min_size=1, max_size=4))
def test_words_are_read_as_they_are_told(forms: list[FormRecord]) -> None:
    found = parse_answer_forms(form_words(forms), classes=10, seed=0)
    assert found.forms == tuple(forms)
    assert found.words == form_words(forms)
    noisy = parse_answer_forms(f"{form_words(forms)}, gaussian_noise 0.1, labels", classes=10, seed=0)
    assert (noisy.labels_only, noisy.forms[-1]) == (True, GaussianNoise(deviation=0.1))


def test_a_form_may_be_said_with_its_defaults_and_nothing_is_the_answer_as_it_came() -> None:
    assert parse_answer_forms("top_k,reverse_sigmoid", classes=4, seed=0).forms == (TopK(), ReverseSigmoid())
    plain, labels = (parse_answer_forms(said, classes=4, seed=0) for said in (None, "labels"))
    assert (plain, plain.words, labels.words) == (AnswerForms(), "", "labels")


@pytest.mark.parametrize("key", [KEY, CELLS], ids=["images", "cells"])
@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("forms", [[FORMS[0]], [FORMS[1]], TURNED, [FORMS[3], FORMS[2]]], ids=form_words)
def test_a_suspect_is_judged_as_one_that_answers_so_itself(key: Any, forms: list[FormRecord], sequential: bool) -> None:
    asked = order_queries(key, None, 0)
    logits = scored(asked)
    itself = shaped(torch.from_numpy(np.log(chances(logits))), forms).exp().numpy()
    found = verify(key, recalling(asked, logits), answers=form_words(forms), sequential=sequential)
    right = verify(key, recalling(asked, itself), sequential=sequential)
    assert told(found) == pytest.approx(told(right))


def test_top_choices_alone_tie_all_the_others() -> None:
    asked = order_queries(KEY, None, 0)
    (free,), (cut,) = (verify(KEY, recalling(asked, scored(asked)), answers=said).suspects for said in (None, "top_k"))
    assert (free.decision, free.form, cut.decision, cut.form) == ("proven", "scores", "not proven", "scores")
    assert free.secret_first is not None
    assert cut.secret_first == cut.matches < free.secret_first
    assert (cut.right, cut.matches) == (free.right, free.matches)


@pytest.mark.parametrize("key", [KEY, CELLS], ids=["images", "cells"])
def test_labels_alone_are_first_choices(key: Any) -> None:
    asked = order_queries(key, None, 0)
    logits = scored(asked)
    found = verify(key, recalling(asked, logits), answers="labels")
    assert told(found) == told(verify(key, recalling(asked, logits.argmax(1))))
    same = verify(key, recalling(asked, logits.argmax(1)), answers="labels")
    assert told(found) == told(same), "labels need no restriction"
    disturbed = shaped(torch.from_numpy(log_chances(logits)), TURNED).numpy().argmax(1)
    assert not np.array_equal(disturbed, logits.argmax(1))
    found = verify(key, recalling(asked, logits), answers=f"{form_words(TURNED)}, labels")
    assert told(found) == told(verify(key, recalling(asked, disturbed)))


@pytest.mark.parametrize(("digits", "named"), [(0, [NO_CLASS, NO_CLASS]), (1, [1, 0]), (2, [2, 0])])
def test_rounding_before_labels_is_judged_as_labels_of_rounded_scores(digits: int, named: list[int]) -> None:
    raw = np.array([[0.14, 0.42, 0.44], [0.45, 0.3, 0.25]])
    forms = parse_answer_forms(f"rounding {digits}, labels", classes=3, seed=0)
    found = forms.shape(Answers(raw.argmax(1), raw), [0, 1], 0)
    assert (found.labels.tolist(), found.scores) == (named, None)
    assert forms.words == f"rounding {digits}, labels"


def test_what_names_no_class_stays_as_it_is() -> None:
    scores = np.array([[2.0, 0.0, 1.0], [1 / 3] * 3, [4.0, 4.0, 4.0], [0.0, 0.0, 3.0]])
    raw = Answers(np.array([0, NO_ANSWER, NO_CLASS, 2]), scores)
    found = AnswerForms((TopK(),)).shape(raw, [0, 1, 2, 3], 0)
    assert found.scores is not None
    assert found.labels.tolist() == raw.labels.tolist()
    assert np.array_equal(found.scores[1:3], scores[1:3])
    assert (found.scores[[0, 3]] > 0).sum(1).tolist() == [1, 1]
    zeros = AnswerForms((Rounding(digits=0),)).shape(Answers(np.array([2]), np.array([[0.1, 0.1, 0.2]])), [0], 0)
    assert zeros.labels.tolist() == [NO_CLASS], "an answer of zeros names none"


def test_noise_belongs_to_the_image_and_the_suspect() -> None:
    forms, scores = AnswerForms((GaussianNoise(),), seed=5), np.log(np.full((4, 3), 1 / 3)) + np.eye(4, 3)
    raw = Answers(scores.argmax(1), scores)
    whole = forms.shape(raw, [7, 2, 9, 4], 1).scores
    part = forms.shape(raw.part(slice(1, 3)), [2, 9], 1).scores
    assert whole is not None
    assert part is not None
    assert np.array_equal(whole[1:3], part), "when it was asked does not matter"
    row = shaped(torch.from_numpy(log_chances(scores[:1])), forms.forms, make_generator(5, "answers", 1, 7))
    assert np.array_equal(whole[0], row[0].exp().numpy())
    other = forms.shape(raw, [7, 2, 9, 4], 0).scores
    assert other is not None
    assert not np.array_equal(whole, other)


def test_scores_are_read_as_elsewhere() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 4)) * 30
    np.testing.assert_allclose(log_chances(logits), log_chances(logits + 100))
    np.testing.assert_allclose(np.exp(log_chances(logits)), chances(logits))
    np.testing.assert_allclose(np.exp(log_chances(chances(logits))), chances(logits))
    assert np.exp(log_chances(np.array([[0.5, 0.2, 0.0]]))).tolist() == [pytest.approx([0.5, 0.2, 0.0])]
    assert np.isfinite(log_chances(np.array([[1.7e308, -1.7e308, 0.0]]))).all()


@pytest.mark.parametrize("said", ["top_k 2", "rounding", "gaussian_noise 0.2, labels"])
def test_labels_cannot_be_put_into_a_form_of_scores(said: str) -> None:
    asked = order_queries(KEY, None, 0)
    with pytest.raises(ValueError, match=rf"^answers: {said}.* needs scores, and .* answers with labels; allowed"):
        verify(KEY, recalling(asked, asked.labels), answers=said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "answers: '' is not allowed; allowed: forms such as"),
        ("labels, top_k", "answers: 'labels' is not allowed; allowed"),
        ("quantized 3", "answers: 'quantized 3' is not allowed; allowed"),
        ("top_k 6", "answers: top_k 6.k: 6 is not allowed: must be below 6, the number of classes"),
        ("top_k 0", "answers: top_k 0: k: 0 is not allowed"),
        ("top_k two", "answers: top_k two: k: 'two' is not allowed"),
        ("top_k 2 3", "answers: 'top_k 2 3' is not allowed: top_k has k, renormalize and nothing more"),
        ("temperature", "answers: temperature: temperature: is missing"),
        ("top_k 3, labels", "answers: 'top_k 3' is not allowed before labels: it changes no first choice"),
        ("gaussian_noise, top_k 3, labels", "answers: 'top_k 3' is not allowed before labels: it changes no first"),
        ("rounding, temperature 2, labels", "answers: 'temperature 2' is not allowed before labels"),
        ("temperature 1", "answers: temperature 1.temperature: 1 is not allowed: it changes no answer"),
    ],
)
def test_what_is_no_form_is_refused_before_anything_is_asked(said: str, message: str) -> None:
    def never(images: Any) -> Any:
        raise AssertionError("was asked")

    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        verify(KEY, never, answers=said)
    assert len(str(refused.value).splitlines()) == 1


def test_a_control_of_labels_fits_to_suspects_judged_by_labels() -> None:
    asked = order_queries(KEY, None, 0)
    suspect, control = recalling(asked, scored(asked)), recalling(asked, scored(asked, 0.0).argmax(1))
    with pytest.raises(ValueError, match=r"control: .* answers with labels"):
        verify(KEY, suspect, control=control)
    assert verify(KEY, suspect, control=control, answers="labels").suspects[0].form == "labels"


def test_what_came_is_kept_and_the_form_is_told(case: VerificationCase, tmp_path: Path) -> None:
    said, key, one = "top_k 2, rounding 2", load_key(case.key), tmp_path / "one"
    verdict = verify(key, case.key, answers=said, output=one)
    assert verdict.plan.answers == said
    plan, *lines = [json.loads(line) for line in (one / ANSWERS).read_text().splitlines()]
    assert plan["plan"]["answers"] == said
    asked = order_queries(key, None, 0)
    kept = {number: row for line in lines for number, row in zip(line["queries"], line["scores"], strict=True)}
    np.testing.assert_allclose([kept[number] for number in asked.numbers], answers(case.key)(asked.images), rtol=1e-5)
    text = Page(html_report(verdict)).text
    assert f"as if they answered with {said}" in text
    assert f"as {said}, which is made of what came" in text
    again = verify(key, case.key, answers=said, output=one)
    assert (again.asked_now, told(again)) == ((0,), told(verdict)), "nothing is asked again"
    for other in (None, "top_k 2"):
        with pytest.raises(ValueError, match="was begun otherwise: answers was"):
            verify(key, case.key, answers=other, output=one)


def test_without_forms_plan_and_report_say_nothing_of_them(case: VerificationCase, tmp_path: Path) -> None:
    free = verify(case.key, case.key, output=tmp_path / "free")
    with (tmp_path / "free" / ANSWERS).open() as log:
        assert "answers" not in json.loads(log.readline())["plan"], "verdicts of older releases keep their names"
    assert free.plan.answers == ""
    text = Page(html_report(free)).text
    assert "as they come" in text
    assert "as if they answered" not in text


def test_the_command_takes_forms_and_names_its_option(ask: Ask, say: Say, case: VerificationCase) -> None:
    words = ("--suspect", str(case.key), "--answers")
    status, found = ask(*words, "labels")
    assert (status, found["plan"]["answers"], found["suspects"][0]["form"]) == (0, "labels", "labels")
    refused = "--answers: top_k 99.k: 99 is not allowed: must be below 4, the number of classes"
    one_line(say("verify", "--key", str(case.key), *words, "top_k 99"), refused)
