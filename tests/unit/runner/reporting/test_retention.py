"""Retention: curves over what was spent, the headline, a table of them and a picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import t as student

from mwm.runner.reporting.figures.style import COLOURS, GREY
from mwm.runner.reporting.groups.configurations import attacked, group_by_configuration
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.retention import ACCURACY_DROPS, COLUMNS, RetentionPoint, points, worst_case, write
from mwm.stats.intervals import MeanInterval
from mwm.trials.outcome import robustness
from tests.helpers.drawn import draw_pictures
from tests.helpers.ended import HARD, MARGIN, NONE, SOFT, failed, result, stolen, trial

WIDE = MARGIN | {"step_size": 0.1}


def found(results: list[TrialResult]) -> list[RetentionPoint]:
    return points(group_by_configuration(result_rows(results)))


def exact(point: RetentionPoint) -> MeanInterval:
    assert point.neg_log10_p is not None, "this scheme allows an exact test"
    return point.neg_log10_p


def best(results: list[TrialResult]) -> dict[str, dict[int, RetentionPoint | None]]:
    """The headline by kind of scheme."""
    groups = group_by_configuration(result_rows(results))
    return {dict(one)["scheme.kind"]: told for one, told in worst_case(points(groups), attacked(groups)).items()}


def several(schemes: list[dict[str, Any]], attacks: list[dict[str, Any]], seeds: int = 3) -> list[TrialResult]:
    """Victims and students whose figures differ from point to point."""
    ended = []
    for place, scheme in enumerate(schemes):
        for seed in range(seeds):
            ended.append(result(trial(scheme, seed), clean_acc=0.97 - place / 200))
            for number, attack in enumerate(attacks):
                query = max(0.0, place / len(schemes) - number / 40 + seed / 30)
                ended.append(stolen(scheme, seed, attack, query, clean_acc=0.9 + number / 200 - place / 100))
    return ended


BUDGETS = [attack | more for attack in (SOFT, HARD) for more in ({"query_budget": 200}, {"query_budget": 800}, {})]


def test_a_point_is_the_mean_over_the_students_of_a_setting_with_its_interval() -> None:
    ended = [result(trial(MARGIN, seed), clean_acc=0.95 + seed / 100) for seed in (0, 1, 2)]
    few = SOFT | {"query_budget": 300}
    ended += [stolen(MARGIN, seed, few, 0.2 + seed / 10, clean_acc=0.9) for seed in (0, 1, 2)]
    ended += [stolen(MARGIN, 0, SOFT, 0.5, clean_acc=0.96), failed(trial(MARGIN, 1, SOFT))]
    one, other = found(ended)
    assert (one.budget, one.calls, one.students, one.detected) == (300, 300, 3, 3)
    half = student.ppf(0.975, 2) * 0.1 / 3**0.5
    assert (one.query_acc.value, one.query_acc.low, one.query_acc.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))
    assert (exact(one).value, exact(one).high) == pytest.approx((9.0, 9 + 30 * half))
    assert one.accuracy_drop == pytest.approx(0.06)
    assert (other.budget, other.calls, other.students) == (None, 50_000, 1)
    assert (other.query_acc.low, other.query_acc.high) == (None, None)
    assert other.accuracy_drop == pytest.approx(-0.01), "a failed student is not counted, nor is its victim"
    assert one.curve.attack == other.curve.attack
    assert (one.curve.field, one.curve.strength) == ("query_budget", 300)
    assert one.victim == other.victim


def test_an_interval_stays_where_shares_are() -> None:
    (point,) = found([stolen(MARGIN, seed, SOFT, float(seed), clean_acc=1.0 - seed / 9) for seed in (0, 1)])
    assert (point.query_acc.low, point.query_acc.high, point.clean_acc.high, exact(point).low) == (0, 1, 1, 0)
    assert point.accuracy_drop is None, "nobody knows what the victims could do"


LOSSES = st.floats(-0.05, 0.2).map(lambda lost: round(lost, 3))


@given(st.lists(st.tuples(st.sampled_from([0, 1]), LOSSES, st.floats(0, 1)), max_size=8))
@settings(deadline=None)
def test_the_headline_is_that_of_a_plain_loop(thefts: list[tuple[int, float, float]]) -> None:
    schemes: list[dict[str, Any]] = [MARGIN, NONE]
    ended = [result(trial(scheme), clean_acc=0.9) for scheme in schemes]
    for number, (place, lost, query) in enumerate(thefts):
        ended.append(stolen(schemes[place], 0, SOFT | {"query_budget": 100 + number}, query, clean_acc=0.9 - lost))
    told = best(ended)
    for place, scheme in enumerate(schemes):
        own = [(lost, query) for at, lost, query in thefts if at == place]
        for most in ACCURACY_DROPS:
            good = [query for lost, query in own if round(1000 * lost) <= 10 * most]
            point = told.get(scheme["kind"], {}).get(most)
            assert (point and point.query_acc.value) == (min(good) if good else None)


def test_the_headline_is_by_proof_where_it_can_be_and_by_matches_where_not() -> None:
    fewest, least = SOFT | {"query_budget": 100}, SOFT | {"query_budget": 200}
    for proofs, calls in (((-9.0, -2.0), 200), ((None, None), 100)):
        ended = [result(trial(MARGIN), clean_acc=0.9)]
        for attack, query, proof in zip((fewest, least), (0.1, 0.3), proofs, strict=True):
            more: dict[str, Any] = {"log10_p": proof} | ({} if proof else {"proven_1e3": None, "proven_1e6": None})
            ended.append(stolen(MARGIN, 0, attack, query, clean_acc=0.9, **more))
        assert {point and point.budget for point in best(ended)["margin"].values()} == {calls}


def test_of_equal_thieves_the_headline_names_the_better_student() -> None:
    clean = {100: 0.88, 200: 0.9, 300: 0.89}
    ended = [result(trial(MARGIN), clean_acc=0.9)]
    ended += [stolen(MARGIN, 0, SOFT | {"query_budget": calls}, 0.1, clean_acc=acc) for calls, acc in clean.items()]
    assert {point and point.budget for point in best(ended)["margin"].values()} == {200}


@pytest.mark.parametrize("missing", ["failed", "skipped", "never robbed"])
def test_a_thief_with_a_seed_missing_is_no_headline(missing: str) -> None:
    """The best attack lacks a student: the means of the others are known, but it does not compete."""
    ended = [result(trial(MARGIN, seed), clean_acc=0.9) for seed in (0, 1, 2)]
    ended += [stolen(MARGIN, seed, SOFT | {"query_budget": 100}, 0.1, clean_acc=0.9) for seed in (0, 1)]
    ended += [stolen(MARGIN, seed, SOFT, 0.4, clean_acc=0.9) for seed in (0, 1, 2)]
    if missing != "never robbed":
        ended.append(failed(trial(MARGIN, 2, SOFT | {"query_budget": 100}), missing))
    assert [(point.budget, point.students, point.seeds, point.complete) for point in found(ended)] == [
        (100, 2, 3, False),
        (None, 3, 3, True),
    ]
    assert {point and point.budget for point in best(ended)["margin"].values()} == {None}
    assert {point and point.students for point in best(ended)["margin"].values()} == {3}


def test_points_are_in_the_order_of_their_budgets() -> None:
    ended = [result(trial(MARGIN)), *(stolen(MARGIN, 0, attack, 0.1) for attack in (BUDGETS[2], *BUDGETS[:2]))]
    assert [point.budget for point in found(ended)] == [200, 800, None]


def test_a_student_that_is_just_good_enough_counts() -> None:
    ended = [result(trial(MARGIN), clean_acc=0.9), stolen(MARGIN, 0, SOFT, 0.4, clean_acc=0.87)]
    assert 0.9 - 0.87 > 0.03, "rounding is not on trial here"
    assert [best(ended)["margin"][most] is not None for most in ACCURACY_DROPS] == [False, True, True]


def test_the_curves_are_a_table(tmp_path: Path) -> None:
    curves = found(several([NONE, MARGIN, WIDE], BUDGETS))
    write(curves, tmp_path / "retention.csv")
    with (tmp_path / "retention.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
    more = ("num_queries", "weight", "mass", "queries_per_step", "batchnorm", "step_size", "steps")
    assert tuple(reader.fieldnames or ()) == (*COLUMNS, *(f"scheme.{name}" for name in more))
    assert {line["setting"] for line in lines} == {"none", "margin 10/255", "margin 0.1"}
    assert {line["attack"] for line in lines} == {"extraction soft", "extraction hard"}
    for line, point in zip(lines, curves, strict=True):
        assert line["query_budget"] == ("" if point.budget is None else str(point.budget))
        assert (line["seeds"], line["students"], line["detected"]) == ("3", "3", str(point.detected))
        assert float(line["oracle_calls"]) == point.calls
        assert float(line["query_acc"]) == point.query_acc.value
        assert float(line["neg_log10_p_high"]) == exact(point).high
        assert float(line["accuracy_drop"]) == pytest.approx(100 * (point.accuracy_drop or 0))
        assert json.loads(line["victim_setting"]) == json.loads(json.dumps(dict(point.victim)))
        assert "query_budget" not in json.loads(line["attack_setting"])


def colours(path: Path) -> set[str]:
    pixels = np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0)
    return {f"#{r:02X}{g:02X}{b:02X}" for r, g, b in pixels.tolist()}


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_picture_has_a_colour_for_each_setting(tmp_path: Path, seeds: int) -> None:
    draw_pictures(tmp_path, several([NONE, MARGIN, WIDE], BUDGETS, seeds))
    assert colours(tmp_path / "retention.png") & {*COLOURS[:6], GREY} == {*COLOURS[:2], GREY}


def test_a_scheme_without_an_exact_test_is_held_by_its_query_accuracy(tmp_path: Path) -> None:
    untested = {"log10_p": None, "proven_1e3": None, "proven_1e6": None}
    ended = [result(trial(MARGIN, seed), **untested) for seed in (0, 1)]
    ended += [result(trial(MARGIN, seed, SOFT), query_acc=0.3, oracle_calls=100, **untested) for seed in (0, 1)]
    (point,) = found(ended)
    assert point.query_acc.value == pytest.approx(0.3)
    assert point.neg_log10_p is None
    assert (point.students, point.detected) == (2, None)
    write([point], tmp_path / "retention.csv")
    assert robustness([one.outcome for one in ended[2:]]) == {"worst_query_acc": 0.3, "mean_query_acc": 0.3}
