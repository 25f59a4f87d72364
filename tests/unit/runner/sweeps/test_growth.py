"""How a sweep may grow: what two files say otherwise, and which trials are still of the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.runner.sweeps.growth import asked_victims, changes, foreign_trials, in_words, refuse_other_search
from mwm.runner.sweeps.search import FixedSource
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.trials.trial import TrialInputs
from tests.helpers.records import SPACE, drawn, searching, swept
from tests.unit.runner.sweeps.test_trial_queue import SETS, outcome

SOFT, HARD = {"kind": "extraction"}, {"kind": "extraction", "labels": "hard"}


def trials(sweep: Sweep, sets: TrialInputs = SETS) -> set[str]:
    """The digests of all trials of a sweep, as its plan hands them out."""
    plan, found = TrialQueue(FixedSource(sweep), [attack for _, attack in sweep.attack_specs], sets), set()
    while (item := plan.next()) is not None:
        found.add(item[0])
        plan.finish(*item, outcome(item[1], True, 3))
    return found


# What two files say otherwise


def test_the_same_is_no_change_however_it_is_written() -> None:
    one = swept({"seed": {"grid": [0, 1]}}, [SOFT, {"kind": "extraction", "labels": {"grid": ["hard"]}}])
    other = swept({"seed": {"grid": [0, 1]}}, [HARD, "extraction", SOFT])
    assert changes(one, one) == changes(one, other) == []


def test_changes_are_told_by_paths_the_old_value_first() -> None:
    before = swept({"seed": 0, "scheme": {"kind": "margin", "steps": 2}}, [SOFT])
    now = swept({"seed": {"grid": [0, 1]}, "scheme": {"kind": "margin", "steps": 3}}, [HARD])
    found = changes(before, now)
    assert found == [
        ("-", "attacks: {'kind': 'extraction'}"),
        ("+", "attacks: {'kind': 'extraction', 'labels': 'hard'}"),
        ("-", "victim.scheme.steps: 2"),
        ("+", "victim.scheme.steps: 3"),
        ("-", "victim.seed: 0"),
        ("+", "victim.seed.grid: [0, 1]"),
    ]
    assert list(in_words(found)) == [
        "no more attacks: {'kind': 'extraction'}",
        "attacks: {'kind': 'extraction', 'labels': 'hard'}",
        "victim.scheme.steps: 3",
        "victim.seed.grid: [0, 1]",
    ]


def test_what_nothing_stands_for_any_more_is_told() -> None:
    found = changes(swept({"seed": 3}), swept({}))
    assert (list(found), list(in_words(found))) == ([("-", "victim.seed: 3")], ["no more victim.seed: 3"])


def test_more_samples_are_told_and_names_and_tags_are_not() -> None:
    before, now = (swept(SPACE, kind="random", num_samples=number) for number in (2, 3))
    assert changes(before, now) == [("-", "search.num_samples: 2"), ("+", "search.num_samples: 3")]


# Which trials are of a sweep

VALUES = st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True)
ATTACKS = st.lists(st.sampled_from([SOFT, HARD, {"kind": "distillation"}]), max_size=3, unique_by=str)


@given(VALUES, VALUES, ATTACKS, ATTACKS)
@settings(max_examples=40, deadline=None)
def test_foreign_are_those_that_the_plan_does_not_hand_out(
    seeds: Sequence[int], more: Sequence[int], attacks: Sequence[Any], others: Sequence[Any]
) -> None:
    before, now = swept({"seed": {"grid": seeds}}, attacks), swept({"seed": {"grid": more}}, others)
    known, left = trials(before), trials(now)
    assert foreign_trials(now, asked_victims(before, now), known, sets=SETS) == known - left


def test_other_data_make_all_trials_foreign() -> None:
    sweep = swept({}, [SOFT])
    key, held = next(iter(SETS.items()))
    other = TrialInputs({key: replace(held, digest="new")})
    known = trials(sweep)
    assert len(known) == 2
    assert foreign_trials(sweep, asked_victims(sweep, sweep), known, sets=other) == known


def test_of_random_points_fewer_samples_make_none_foreign() -> None:
    before, now = (swept(SPACE, kind="random", num_samples=number) for number in (5, 2))
    assert list(asked_victims(before, now)) == drawn(before)
    assert list(asked_victims(now, before)) == drawn(before)
    other = swept(SPACE, kind="random", num_samples=5, seed=1)
    known = trials(before)
    assert foreign_trials(other, asked_victims(before, other), known, sets=SETS) == known


def test_a_grid_value_more_keeps_random_points() -> None:
    before, now = (swept(SPACE | {"seed": {"grid": seeds}}, kind="random", num_samples=3) for seeds in ([0], [0, 1, 2]))
    assert foreign_trials(now, asked_victims(before, now), trials(before), sets=SETS) == set()


# Searches by Optuna


@pytest.mark.parametrize(
    ("now", "attacked"),
    [
        (searching(num_samples=9), True),
        (searching(attacks=[SOFT, HARD]), True),
        (searching(attacks=[]), True),
    ],
    ids=["samples", "an attack more", "an attack less"],
)
def test_a_search_may_grow_by_samples_and_by_attacks_that_it_was_not_told_of(now: Sweep, attacked: bool) -> None:
    refuse_other_search(searching(), now, attacked=attacked)


@pytest.mark.parametrize(
    "now",
    [
        searching({"recipe": {"epochs": {"integers": [2, 5]}, "lr": {"uniform": [0.1, 0.3]}}}),
        searching(seed=1),
        searching(objectives=["clean_acc"]),
        swept({}, [SOFT]),
    ],
    ids=["space", "seed", "objectives", "a grid"],
)
def test_another_search_is_refused_in_both_directions(now: Sweep) -> None:
    for one, other in ((searching(), now), (now, searching())):
        with pytest.raises(ValueError, match=r"^search: is not allowed to change: Optuna goes on in the space of its "):
            refuse_other_search(one, other, attacked=False)


def test_attacks_that_optuna_was_told_of_stay_what_they_were() -> None:
    how: dict[str, Any] = {"objectives": ["clean_acc", "worst_log10_p"]}
    before, now = searching(**how), searching(attacks=[SOFT, HARD], **how)
    refuse_other_search(before, now, attacked=False)
    with pytest.raises(ValueError, match=r"^attacks: are not allowed to change: Optuna was told worst_log10_p of the"):
        refuse_other_search(before, now, attacked=True)


def test_grids_and_chance_know_no_study() -> None:
    refuse_other_search(swept({}), swept(SPACE, kind="random", num_samples=2), attacked=True)
