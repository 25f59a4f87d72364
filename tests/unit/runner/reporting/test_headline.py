"""The answer of a sweep in one sentence: each case its own, and each true."""

from __future__ import annotations

from typing import Any

import pytest

from mwm.runner.reporting.groups.configurations import group_by_configuration
from mwm.runner.reporting.headline import headline
from mwm.runner.reporting.results import TrialResult, result_rows
from tests.helpers.ended import CONFUSION, HARD, MARGIN, SOFT, control, failed, result, stolen, trial
from tests.helpers.reported import ended


def said(results: list[TrialResult]) -> str:
    return headline(group_by_configuration(result_rows(results)))


def marked(lost: float = 0.0, seed: int = 0, scheme: dict[str, Any] = MARGIN) -> TrialResult:
    return result(trial(scheme, seed), clean_acc=0.98 - lost / 100)


def test_the_watermark_that_keeps_most_is_named_with_its_attack_seeds_and_cost() -> None:
    assert said(ended()) == (
        "Of 2 watermarks margin keeps the most proof: −log10 p 6.0 after its worst attack (extraction hard, students "
        "lose at most 5 points), mean of 2 seeds; proven in 2 of 2 at p ≤ .001; it costs 1 point of clean accuracy. "
        "Threat model of that attack: black box, hard answers, no true labels, victim_data images, "
        "50,000 calls, start: fresh."
    )


def test_the_worst_attack_is_none_that_spoils_the_student() -> None:
    results = [control(), marked(), stolen(MARGIN, 0, SOFT, 0.4, clean_acc=0.98)]
    results.append(stolen(MARGIN, 0, HARD, 0.0, clean_acc=0.9))
    assert "−log10 p 12.0 after its worst attack (extraction soft," in said(results)
    assert "1 seed; proven at p ≤ .001; it costs no clean accuracy" in said(results)


def test_equals_are_counted_and_the_cheapest_of_them_is_named() -> None:
    results = [control(), *(marked(lost, scheme=scheme) for lost, scheme in ((2, MARGIN), (1, CONFUSION)))]
    results += [stolen(scheme, 0, SOFT, 0.4) for scheme in (MARGIN, CONFUSION)]
    assert said(results).startswith("Of 2 watermarks confusion keeps the most proof: −log10 p 12.0")
    assert "; 1 other keeps as much; it costs 1 point" in said(results)


def test_without_a_control_the_cost_is_unknown() -> None:
    assert "; what it costs is unknown without a control. Threat" in said([marked(), stolen(MARGIN, 0, SOFT, 0.4)])


def test_where_nothing_is_proven_that_is_said_first() -> None:
    results = [control(), marked(1), stolen(MARGIN, 0, SOFT, 0.05, clean_acc=0.97)]
    assert said(results).startswith(
        "No watermark is proven (p ≤ .001) after its worst attack; margin keeps −log10 p 1.5"
    )
    assert "; not proven at p ≤ .001;" in said(results)


def test_without_an_exact_test_the_query_accuracy_is_told() -> None:
    results = [marked(), stolen(MARGIN, 0, SOFT, 0.25, log10_p=None, clean_acc=0.98)]
    assert said(results).startswith("margin keeps query accuracy .25 after its worst attack")
    assert "no test is exact for its labels" in said(results)


def test_settings_that_nobody_could_judge_are_counted() -> None:
    results = [
        *ended(),
        marked(scheme=MARGIN | {"num_queries": 30}),
        failed(trial(MARGIN | {"num_queries": 30}, 0, SOFT)),
    ]
    left_out = "; 1 setting left out: no attack on it is done for every seed with students that lose at most 5 points. "
    assert left_out in said(results)


def test_the_worst_attack_is_said_with_what_it_was_given() -> None:
    tuned = {"kind": "fine_tuning", "labels": "predicted", "source": "disjoint"}
    disjoint = {"split": {"disjoint": 0.2}}
    results = [result(trial(MARGIN, 0, **disjoint), clean_acc=0.98)]
    results += [result(trial(MARGIN, 0, SOFT, **disjoint), log10_p=-9.0)]
    results += [result(trial(MARGIN, 0, tuned, **disjoint), log10_p=-1.0, attacker_images=1400)]
    assert said(results).endswith(
        "Threat model of that attack: white box, no true labels, 1,400 disjoint images, start: victim's weights."
    )
    adaptive = stolen(MARGIN, 0, SOFT | {"query_budget": 100, "smoothing": 2}, 0.0, clean_acc=0.95)
    text = said([marked(), stolen(MARGIN, 0, SOFT, 0.4), adaptive])
    assert "(extraction x2 averaged 100 calls (adaptive: margin)," in text
    assert text.endswith(" images, 100 calls, start: fresh, adaptive: margin.")


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([failed(trial(MARGIN))], "No trial has ended well."),
        ([control(), control(0, SOFT)], "Only controls were trained: there is no watermark to compare."),
        ([marked()], "Nothing was attacked, and without a control what 1 watermark cost is unknown."),
        ([control(), marked(2)], "Nothing was attacked; margin: it costs 2 points of clean accuracy."),
        (
            [control(), marked(2), marked(1, scheme=CONFUSION)],
            "Nothing was attacked; of 2 watermarks confusion is the cheapest: it costs 1 point of clean accuracy.",
        ),
        (
            [control(), marked(), failed(trial(MARGIN, 0, SOFT))],
            "No watermark can be judged: "
            "no attack on it is done for every seed with students that lose at most 5 points.",
        ),
    ],
)
def test_where_nothing_is_to_be_compared_it_says_why(results: list[TrialResult], words: str) -> None:
    assert said(results) == words
