"""What answers are worth: every test of them, when to stop, and the decision of several suspects together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.stats.binomial import log10_p, p_value
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.sequential import SequentialTest
from mwm.verification.decision import VALID, decide, deciding_test, matches_to_decide, run_tests
from mwm.verification.verdict import TestResult
from tests.helpers.verifying import CLASSES, questions

ASKED = questions(40)


def after(matched: list[bool]) -> SequentialTest:
    test = SequentialTest(CLASSES)
    for match in matched:
        test.add(match)
    return test


def decided(matched: list[bool], level: float) -> bool:
    return after(matched).p_value <= level


@given(
    matched=st.lists(st.booleans(), max_size=20),
    left=st.integers(0, 20),
    level=st.sampled_from([0.3, 0.05, 1e-3, 1e-6]),
)
def test_what_is_still_needed_is_needed_and_enough(matched: list[bool], left: int, level: float) -> None:
    test = after(matched)
    count = matches_to_decide(test, left, level)
    assert (test.queries, test.matches) == (len(matched), sum(matched)), "to look ahead changes nothing"
    if count:
        assert decided(matched + [True] * count, level)
        assert not decided(matched + [True] * (count - 1), level)
    else:
        assert decided(matched, level) or not decided(matched + [True] * left, level)


def test_matches_are_weighed_by_every_test() -> None:
    answers = np.where(np.arange(40) < 30, ASKED.labels, ASKED.truth)
    found = told(run_tests(answers, ASKED, scores=np.eye(CLASSES)[answers], null=[5, 30, 31]))
    assert found["binomial"] == {"p_value": p_value(30, 40, CLASSES), "log10_p": log10_p(30, 40, CLASSES)}
    assert found["empirical"] == {"p_value": 3 / 4, "as_many": 2, "null_models": 3}
    assert found["permutation"] == {"p_value": 1e-4}
    assert found["rank"]["p_value"] < 1e-4
    assert found["sequential"]["p_value"] == pytest.approx(10 ** found["sequential"]["log10_p"])


def told(tests: Mapping[str, TestResult | None]) -> dict[str, Any]:
    """Tests as verdict.json tells them."""
    return {name: test and test.to_dict() for name, test in tests.items()}


def test_the_first_answers_are_weighed_alone() -> None:
    found = told(run_tests(ASKED.labels[:10], ASKED))
    assert found["binomial"]["p_value"] == p_value(10, 10, CLASSES)
    assert (found["rank"], found["empirical"]) == (None, None)


def test_no_match_is_no_evidence() -> None:
    found = told(run_tests(ASKED.truth, ASKED))
    assert [found[name]["log10_p"] for name in ("binomial", "sequential")] == [0.0, 0.0]
    assert str(found["sequential"]["log10_p"]) == "0.0", "no minus in front of it"


def test_only_tests_that_hold_for_the_labels_are_told() -> None:
    answers, scores = ASKED.labels, np.eye(CLASSES)[ASKED.labels]
    for labels_are, valid in VALID.items():
        found = run_tests(answers, ASKED, scores=scores, null=[1], labels_are=labels_are)
        assert {name for name, test in found.items() if test} == set(valid)


def test_the_labels_choose_the_test_that_decides() -> None:
    assert deciding_test("uniform_wrong_labels", sequential=False) == "binomial"
    assert deciding_test("uniform_wrong_labels", sequential=True) == "sequential"
    assert deciding_test("exchangeable", sequential=False) == "permutation"
    with pytest.raises(ValueError, match=r"^sequential: is not allowed for this key"):
        deciding_test("exchangeable", sequential=True)
    with pytest.raises(ValueError, match=r"^key: its labels allow no exact test"):
        deciding_test("null_models", sequential=False)


def test_holm_decides_for_several_suspects() -> None:
    """0.02 alone is proven at 0.03; beside another of 0.02 it is not, beside one of 0.001 it is."""
    for p_values, decisions in (
        ([0.02], ["proven"]),
        ([0.02, 0.02], ["not proven", "not proven"]),
        ([0.02, 0.001], ["proven", "proven"]),
        ([0.5, 0.001], ["not proven", "proven"]),
    ):
        found = decide(p_values, 0.03)
        assert [decision for _, decision in found] == decisions
        assert [adjusted for adjusted, _ in found] == holm_adjust(p_values)
