"""Trials in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.config.spec import decode
from mwm.trials.names import attack_name, format_fraction, outcome_line, trial_name
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial

MARGIN = {"kind": "margin", "num_queries": 20, "step_size": 10 / 255}


def trial(scheme: dict[str, Any], attack: dict[str, Any] | None = None, **victim: Any) -> Trial:
    tree = {"data": "digits", "model": {"kind": "cnn", "width": 8}, "scheme": scheme} | victim
    made: Trial = decode(Trial, {"victim": tree, "attack": attack})
    return replace(made, attack=made.attack and made.attack.resolve(made.victim))


@pytest.mark.parametrize(
    ("scheme", "attack", "expected"),
    [
        (MARGIN, None, "margin n=20 10/255 seed 0"),
        ({"kind": "none"}, None, "none seed 0"),
        (MARGIN | {"step_size": 0.1, "steps": 3, "weight": 0.2}, None, "margin n=20 0.1 weight=0.2 steps=3 seed 0"),
        ({"kind": "trigger_set", "queries_per_step": "all"}, None, "trigger_set n=100 all per step seed 0"),
        (MARGIN | {"batchnorm": "joint"}, None, "margin n=20 10/255 joint seed 0"),
        (MARGIN | {"mass": 0.45}, None, "margin n=20 10/255 mass 0.45 seed 0"),
        ({"kind": "trigger_set", "mass": 0.3}, None, "trigger_set n=100 mass 0.3 seed 0"),
        ({"kind": "confusion"}, None, "confusion mass 0.1 seed 0"),
        (
            {"kind": "confusion", "mass": 0.05, "cells_per_class": 3},
            {"kind": "extraction"},
            "extraction soft seed 0 on confusion mass 0.05 3 cells per class seed 0",
        ),
        (
            {"kind": "combined", "queries": MARGIN | {"weight": 1.0}, "confusion": {"mass": 0.05}},
            None,
            "combined margin n=20 10/255 weight=1 + confusion mass 0.05 seed 0",
        ),
        (MARGIN, {"kind": "extraction"}, "extraction soft seed 0 on margin n=20 10/255 seed 0"),
        (
            MARGIN,
            {"kind": "extraction", "labels": "hard", "source": "svhn", "student": "resnet18", "seed": 3},
            "extraction hard svhn resnet18 seed 3 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "distillation", "temperature": 4.0, "t_squared": True},
            "distillation soft T=4 t_squared seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "extraction", "query_budget": 150},
            "extraction soft 150 calls seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "extraction", "cache_answers": True},
            "extraction soft cache_answers seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "extraction", "oracle": [{"kind": "top_k", "k": 3}, {"kind": "rounding", "digits": 2}]},
            "extraction soft top_k k=3 + rounding digits=2 seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "extraction", "oracle": [{"kind": "top_k", "renormalize": True}], "query_budget": 150},
            "extraction soft top_k k=1 renormalize 150 calls seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "extraction", "labels": "hard", "oracle": ["gaussian_noise", "reverse_sigmoid"]},
            "extraction hard gaussian_noise 0.2 + reverse_sigmoid beta=1 gamma=0.1 seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "distillation", "temperature": 2.0, "oracle": [{"kind": "temperature", "temperature": 4.0}]},
            "distillation soft temperature T=4 T=2 seed 0 on margin n=20 10/255 seed 0",
        ),
    ],
)
def test_labels_say_what_matters(scheme: dict[str, Any], attack: dict[str, Any] | None, expected: str) -> None:
    assert trial_name(trial(scheme, attack)) == expected


def test_a_label_can_leave_its_victim_out_and_needs_no_complete_attack() -> None:
    made: Trial = decode(
        Trial, {"victim": {"data": "digits", "model": "cnn", "scheme": MARGIN}, "attack": "extraction"}
    )
    assert attack_name(made) == "extraction soft seed 0"
    assert trial_name(replace(made, attack=None)) == "margin n=20 10/255 seed 0"


def test_a_line_tells_the_figures_or_the_fault() -> None:
    blank = Outcome(status="done", digest="a", victim_digest="b", data_digest="c")
    done = replace(blank, query_acc=0.85, clean_acc=0.951, log10_p=-9.31, seconds=6.14, peak_mib=412.6)
    name = "extraction soft seed 0 on margin n=20 10/255 seed 0"
    assert outcome_line(name, vars(done)) == f"{name}: query .85, clean .951, log10 p -9.3, 6.1 s, 413 MiB"
    started = {**vars(done), "start_acc": 0.9612}
    assert outcome_line(name, started) == f"{name}: query .85, start .961, clean .951, log10 p -9.3, 6.1 s, 413 MiB"
    older = {field: value for field, value in vars(done).items() if field != "start_acc"}
    assert outcome_line(name, older) == outcome_line(name, vars(done))
    assert outcome_line(name, vars(replace(blank, log10_p=-1e-9))) == f"{name}: log10 p 0.0"
    assert (
        outcome_line(name, vars(replace(blank, status="failed", error="the loss is nan")))
        == f"{name}: failed: the loss is nan"
    )


@given(st.floats(-1, 1), st.integers(1, 6))
def test_shares_read_back_as_they_were(value: float, digits: int) -> None:
    text = format_fraction(value, digits)
    assert abs(float(text) - value) <= 0.5 * 10**-digits + 1e-12
    assert not text.startswith(("0.", "-0."))
    assert len(text.partition(".")[2]) == digits


@pytest.mark.parametrize(("value", "text"), [(0.9531, ".953"), (1.0, "1.000"), (-0.0301, "-.030"), (-0.0001, ".000")])
def test_shares_look_like_this(value: float, text: str) -> None:
    assert format_fraction(value) == text
