"""The front: what a watermark proves after the worst attack, by the clean accuracy that it costs."""

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

from mwm.runner.reporting.figures.style import COLOURS, GREY
from mwm.runner.reporting.front import BATCHNORM, COLUMNS, PUBLISHED, FrontPoint, points, write
from mwm.runner.reporting.groups.configurations import group_by_configuration
from mwm.runner.reporting.results import TrialResult, result_rows
from tests.helpers.drawn import draw_pictures
from tests.helpers.ended import CONFUSION, HARD, MARGIN, NONE, SOFT, control, result, stolen, trial

Price = tuple[float, float, float]
"""Points of clean accuracy that a setting costs, and -log10 p after two attacks on it."""


def found(results: list[TrialResult]) -> list[FrontPoint]:
    return points(group_by_configuration(result_rows(results)))


def sold(scheme: dict[str, Any], price: Price, seed: int = 0) -> list[TrialResult]:
    """A victim of a scheme, and two students that are as good as it."""
    lost, soft, hard = price
    clean = {"clean_acc": 0.98 - lost / 100}
    students = [
        stolen(scheme, seed, attack, 0.2, log10_p=-left, **clean) for attack, left in ((SOFT, soft), (HARD, hard))
    ]
    return [result(trial(scheme, seed), **clean), *students]


def weighted(number: int) -> dict[str, Any]:
    return MARGIN | {"weight": (number + 1) / 100}


PRICES = st.tuples(st.integers(-2, 8).map(float), st.integers(0, 9).map(float), st.integers(0, 9).map(float))


@given(st.lists(PRICES, min_size=1, max_size=7))
@settings(deadline=None)
def test_the_front_is_that_of_a_plain_loop(prices: list[Price]) -> None:
    """A setting is on it unless another costs no more and proves no less, one of them strictly; of equals one is."""
    ended = [control()]
    for number, price in enumerate(prices):
        ended += sold(weighted(number), price)
    marks = [one for one in found(ended) if one.worst]
    assert [one.place for one in marks] == [pytest.approx((lost, min(left))) for lost, *left in prices]
    best = {(lost, min(left)) for lost, *left in prices}
    front = {
        one for one in best if not any(other != one and other[0] <= one[0] and other[1] >= one[1] for other in best)
    }
    told = [one.place for one in marks if one.on_front]
    assert sorted(told) == [pytest.approx(place) for place in sorted(front)]


def test_a_mark_is_the_mean_over_seeds_from_the_least_to_the_largest() -> None:
    ended = [control(seed) for seed in range(3)]
    for seed, price in enumerate([(1.0, 5.0, 9.0), (2.0, 2.0, 9.0), (6.0, 8.0, 9.0)]):
        ended += sold(MARGIN, price, seed)
    worst, other = found(ended)
    drop = worst.clean_drop
    assert (drop.value, drop.low, drop.high) == pytest.approx((0.03, 0.01, 0.06))
    proof = worst.neg_log10_p
    assert (proof.value, proof.low, proof.high) == (5.0, 2.0, 8.0)
    assert (worst.worst, worst.on_front, other.worst, other.on_front) == (True, True, False, False)
    assert dict(worst.point.attack)["labels"] == "soft"


def test_an_attack_that_spoils_the_student_is_not_the_worst() -> None:
    spoiled = stolen(MARGIN, 0, HARD, 0.0, log10_p=0.0, clean_acc=0.91)
    ended = [control(), result(trial(MARGIN), clean_acc=0.97), stolen(MARGIN, 0, SOFT, 0.2, clean_acc=0.97), spoiled]
    assert [(dict(one.point.attack)["labels"], one.worst) for one in found(ended)] == [("soft", True), ("hard", False)]
    lost = [control(), result(trial(MARGIN), clean_acc=0.97), spoiled]
    assert [(one.worst, one.on_front) for one in found(lost)] == [(False, False)]


def test_there_is_no_front_without_a_control_a_watermark_a_test_and_an_attack(tmp_path: Path) -> None:
    marked = sold(MARGIN, (1.0, 3.0, 3.0))
    untested = stolen(MARGIN, 0, SOFT, 0.2, log10_p=None, proven_1e3=None, proven_1e6=None)
    for ended in (
        [],
        marked,
        [control(), *marked[:1]],
        [control(), control(0, SOFT)],
        [control(), marked[0], untested],
    ):
        assert found(ended) == []
        draw_pictures(tmp_path, ended)
        assert not (tmp_path / "front.png").exists()
    students = found([control(), control(0, SOFT), *marked])
    assert [(one.scheme, one.on_front) for one in students] == [("none", False), ("margin", True), ("margin", False)]


PAPER = {"kind": "margin", "num_queries": 20, "batchnorm": "reference"}


def test_the_published_recipe_is_named_or_else_its_batch_normalisation() -> None:
    prices = [PAPER, PAPER | {"weight": 0.3}, MARGIN, PAPER | {"mass": 0.4}]
    ended = [control()]
    for scheme in prices:
        ended += sold(scheme, (1.0, 5.0, 3.0))
    named = {json.dumps(scheme): dict(scheme) for scheme in prices}
    assert len(named) == 4

    def published(results: list[TrialResult]) -> list[str]:
        return [one.published for one in found(results) if one.worst]

    assert published(ended) == ["published recipe (Kim et al., 2023)", "", "", ""]
    without = [one for one in ended if one.trial.victim.scheme != ended[1].trial.victim.scheme]
    assert published(without) == ["batch normalisation as published", "", "batch normalisation as published"]
    plain = dict(found(ended)[0].point.victim)
    assert PUBLISHED.items() <= plain.items()
    assert BATCHNORM.items() <= plain.items()


def test_the_front_is_a_table_and_a_picture_of_the_same_numbers(tmp_path: Path) -> None:
    ended = [control(), control(0, SOFT)]
    for scheme, price in ((MARGIN, (2.0, 9.0, 4.0)), (PAPER, (4.0, 6.0, 5.0)), (CONFUSION, (1.0, 9.0, 1.0))):
        ended += sold(scheme, price)
    marks = found(ended)
    write(marks, tmp_path / "front.csv")
    with (tmp_path / "front.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
    assert tuple(reader.fieldnames or ())[: len(COLUMNS)] == COLUMNS
    assert "scheme.mass" in (reader.fieldnames or ())
    assert len(lines) == len(marks) == 2 + 2 * 3
    for line, one in zip(lines, marks, strict=True):
        assert (line["scheme"], line["worst"], line["on_front"]) == (one.scheme, str(one.worst), str(one.on_front))
        assert float(line["clean_drop"]) == one.clean_drop.value
        assert float(line["neg_log10_p"]) == one.neg_log10_p.value
        assert json.loads(line["victim_setting"]) == json.loads(json.dumps(dict(one.point.victim)))
    sizes = {line["setting"]: line["scheme.num_queries"] for line in lines if line["worst"] == "True"}
    assert sizes == {"none n=20": "20", "none n=classes": "", "confusion": "", **dict.fromkeys(MARGINS, "20")}
    draw_pictures(tmp_path, ended)
    assert colours(tmp_path / "front.png") & {*COLOURS[:6], GREY} == {*COLOURS[:2], GREY}


MARGINS = ("margin 10/255 clean", "margin 1/255 reference")


def colours(path: Path) -> set[str]:
    pixels = np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0)
    return {f"#{r:02X}{g:02X}{b:02X}" for r, g, b in pixels.tolist()}


def test_a_control_is_scored_on_every_key_in_the_picture() -> None:
    ended = [control(), control(0, SOFT), *sold(MARGIN, (1.0, 3.0, 2.0)), *sold(CONFUSION, (1.0, 3.0, 2.0))]
    keys = [dict(one.point.victim)["scheme.num_queries"] for one in found(ended) if one.scheme == NONE["kind"]]
    assert keys == [20, "classes"]
