"""The few lines of the terminal: the decision is understood when it is read once, and nothing beside contradicts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mwm.verification.report.summary import summary_lines
from mwm.verification.verdict import Verdict
from mwm.verification.verify import verify
from tests.helpers.pages import Page
from tests.helpers.verifying import recalling
from tests.unit.verification.report.told import ASKED, COPY, GIVING, HINT, KEY, NEAR, OTHER, SLOW, UNCLEAR


def lines(verdict: Verdict, name: str) -> list[str]:
    """The lines of that name, without it."""
    return [line[10:] for line in summary_lines(verdict) if line.startswith(f"{name:<10}")]


def test_the_decision_is_one_sentence() -> None:
    assert lines(verify(KEY, COPY), "decision") == [
        "PROVEN at level 0.001: without the key, such answers have a chance of 1 in 75 million, within the limit of "
        "1 in 1,000"
    ]
    assert lines(verify(KEY, HINT), "decision") == [
        "NOT PROVEN at level 0.001: without the key, such answers have a chance of 1 in 89, more than the limit of "
        "1 in 1,000"
    ]


def test_a_second_suspect_changes_the_limit_and_says_so() -> None:
    first, second = lines(verify(KEY, NEAR, OTHER), "decision")
    assert first.startswith("NOT PROVEN at level 0.001: without the key, such answers have a chance of 1 in 1,200")
    for one in (first, second):
        assert one.endswith("more than the limit of 1 in 2,000 (2 suspects share 1 in 1,000)")
    _, other = lines(verify(KEY, COPY, OTHER), "decision")
    assert other.endswith("more than the limit of 1 in 1,000"), "the first is proven, and so the whole level is left"


def test_who_is_asked_wrongly_is_told_so() -> None:
    verdict = verify(KEY, recalling(ASKED, (ASKED.truth + 1) % 6), no_diagnosis=True)
    (said,) = lines(verdict, "decision")
    assert said == "INCONCLUSIVE at level 0.001: only 0 of 30 answers are true; it may not be asked rightly"


@pytest.mark.parametrize(
    ("suspect", "sequential", "why"),
    [
        (GIVING, False, "above the limit they are no contradiction, since they use less of the answers"),
        (NEAR, True, "the test that decides was fixed before the answers, and it is another one"),
    ],
)
def test_another_p_that_seems_to_say_otherwise_is_explained(suspect: Any, sequential: bool, why: str) -> None:
    (beside,) = lines(verify(KEY, suspect, sequential=sequential), "beside")
    assert beside.endswith(f". These decide nothing: {why}")


def test_tests_that_agree_need_no_word() -> None:
    (beside,) = lines(verify(KEY, HINT), "beside")
    assert beside.endswith(". These decide nothing")


@pytest.mark.parametrize(
    ("suspect", "stopped", "said"),
    [
        (COPY, "decided", "asking ended after {asked} of 30 queries: they were enough"),
        (SLOW, "all asked", "asking ended undecided: all 30 queries were asked; as a rough guess, about 6 more like"),
        (
            NEAR,
            "out of reach",
            "secret labels in all answers to the {left} left would not decide; as a rough guess, ab",
        ),
        (OTHER, "all asked", "were asked; these answers give no reason to expect that more would"),
    ],
)
def test_the_sequential_test_says_why_it_stopped(suspect: Any, stopped: str, said: str, tmp_path: Path) -> None:
    verdict = verify(KEY, suspect, sequential=True, output=tmp_path / "mine")
    (found,) = verdict.suspects
    expected = said.format(asked=found.asked, left=30 - found.asked)
    (because,) = lines(verdict, "because")
    assert expected in because
    assert expected[1:] in Page((tmp_path / "mine" / "report.html").read_text()).text
    kept = json.loads((tmp_path / "mine" / "verdict.json").read_text())["suspects"][0]
    assert (kept["stopped"], kept["more"]) == (stopped, found.more)
    assert found.stopped == stopped
    assert (found.decision == "proven") == (stopped == "decided")
    assert (found.more is None) == ("rough guess" not in because)


def test_without_it_nothing_is_said_of_stopping() -> None:
    verdict = verify(KEY, UNCLEAR)
    assert (lines(verdict, "because"), verdict.suspects[0].stopped) == ([], None)
