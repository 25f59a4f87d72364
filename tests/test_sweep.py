"""Sweeps: what a file says, and where its victims come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.attacks import Attack, Extraction
from mwm.config import load
from mwm.schemes import Base, Margin
from mwm.search import Listed, Suggested
from mwm.spec import decode, encode
from mwm.sweep import Sweep, corners, thefts
from mwm.trial import Victim

SHIPPED = sorted((Path(__file__).parent.parent / "tune_configs").rglob("*.y*ml"))
PLAIN = {"data": "digits", "model": "cnn", "scheme": "none"}


def swept(victim: dict[str, Any], attacks: Sequence[Any] = (), **search: Any) -> Sweep:
    """A sweep over changes of a plain victim."""
    tree = {"name": "s", "victim": PLAIN | victim, "attacks": list(attacks), "search": search or "grid"}
    sweep: Sweep = decode(Sweep, tree)
    return sweep


def drawn(sweep: Sweep) -> list[Victim]:
    """The victims of a sweep in the order in which they are asked for."""
    source = Listed(sweep)
    found: list[Victim] = []
    while (proposal := source.ask()) is not None:
        assert proposal[0] == len(found)
        found.append(proposal[1])
    assert len(found) == source.total
    return found


# What a file says


def test_there_are_shipped_sweeps() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_sound(path: Path) -> None:
    sweep: Sweep = decode(Sweep, load(path))
    assert corners(sweep)
    for _, attack in thefts(sweep):
        assert decode(Attack, encode(attack)) == attack


def test_a_grid_is_crossed_and_doubles_are_one() -> None:
    scheme = {"grid": ["base", {"kind": "margin", "steps": {"grid": [1, 5, 5]}}, "margin"]}
    sweep = swept({"scheme": scheme, "seed": {"grid": [0, 1]}})
    expected = [(scheme, seed) for scheme in (Base(), Margin(steps=1), Margin()) for seed in (0, 1)]
    assert [(victim.scheme, victim.seed) for victim in corners(sweep)] == expected
    assert drawn(sweep) == corners(sweep)


def test_attacks_are_a_grid_with_paths_and_doubles_are_one() -> None:
    sweep = swept({}, ["extraction", {"kind": "extraction", "labels": {"grid": ["soft", "hard"]}}])
    soft, hard = Extraction(), Extraction(labels="hard")
    assert thefts(sweep) == [("attacks.0", soft), ("attacks.1", hard)]


@pytest.mark.parametrize(
    ("victim", "attacks", "search", "start"),
    [
        ({"seed": {"grid": []}}, [], "grid", "victim.seed.grid: [] is not allowed: "),
        ({"seed": {"choice": [1, 2]}}, [], "grid", "victim.seed.choice: is not allowed in a grid search"),
        (
            {"scheme": {"grid": ["none", {"kind": "margin", "weight": {"uniform": [0, 1]}}]}},
            [],
            "grid",
            "victim.scheme.grid.1.weight.uniform: is not allowed in a grid search",
        ),
        ({"seed": {"grid": [1, 2]}}, [], "optuna", "victim.seed.grid: is not allowed with search.kind optuna"),
        (
            {"scheme": {"choice": ["none", {"kind": "margin", "steps": {"grid": [1, 2]}}]}},
            [],
            "optuna",
            "victim.scheme.choice.1.steps.grid: is not allowed with search.kind optuna",
        ),
        ({"seed": {"uniform": [0.5, 3]}}, [], "random", "victim.seed: 0.5 is not allowed"),
        ({"scheme": {"kind": "margin", "steps": {"integers": [0, 3]}}}, [], "random", "victim.scheme.steps: 0 is not "),
        ({"seed": {"gird": [1]}}, [], "grid", "victim.seed: {'gird': [1]} is not allowed: must be a whole number"),
        (
            {},
            ["extraction", {"kind": "extraction", "labels": {"choice": ["soft", "hard"]}}],
            "random",
            "attacks.1.labels.choice: is not allowed: every victim must meet the same attacks",
        ),
        ({}, [{"kind": "extraction", "seed": {"integers": [0, 3]}}], "optuna", "attacks.0.seed.integers: is not "),
        ({}, [{"kind": "extraction", "labels": "weak"}], "grid", "attacks.0.labels: 'weak' is not allowed: "),
        ({}, ["extract"], "grid", "attacks.0: kind 'extract' is unknown; allowed: "),
    ],
)
def test_a_wrong_sweep_is_one_line(victim: Any, attacks: Any, search: str, start: str) -> None:
    samples = {} if search == "grid" else {"samples": 3}
    sweep = swept(victim, attacks, kind=search, **samples)
    with pytest.raises(ValueError, match=r".") as caught:
        _ = corners(sweep), thefts(sweep)
    assert str(caught.value).startswith(start)
    assert len(str(caught.value).splitlines()) == 1


def test_the_question_is_what_is_asked_and_nothing_else() -> None:
    tree: dict[str, Any] = {"name": "a", "victim": PLAIN}
    same: list[dict[str, Any]] = [
        {"name": "b"},
        {"tags": {"x": "y"}},
        {"resources": {"victim": {"cpus": 2}}},
        {"search": "grid"},
    ]
    other: list[dict[str, Any]] = [
        {"victim": PLAIN | {"seed": 1}},
        {"attacks": ["extraction"]},
        {"search": {"kind": "random", "samples": 1}},
    ]
    question = decode(Sweep, tree).question
    assert {decode(Sweep, tree | change).question for change in same} == {question}
    assert question not in {decode(Sweep, tree | change).question for change in other}


# Chance


SPACE = {
    "scheme": {"choice": ["none", {"kind": "margin", "step_size": {"loguniform": [1e-3, 0.1]}}]},
    "recipe": {"epochs": {"integers": [2, 4]}, "lr": {"uniform": [0.1, 0.3]}},
}


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=20)
def test_random_points_lie_inside_and_follow_from_the_seed(seed: int) -> None:
    victims = drawn(swept(SPACE, kind="random", samples=6, seed=seed))
    assert victims == drawn(swept(SPACE, kind="random", samples=6, seed=seed))
    assert victims[:3] == drawn(swept(SPACE, kind="random", samples=3, seed=seed))
    assert victims != drawn(swept(SPACE, kind="random", samples=6, seed=seed ^ 1))
    for victim in victims:
        assert 2 <= victim.recipe.epochs <= 4
        assert 0.1 <= victim.recipe.lr <= 0.3
        assert not isinstance(victim.scheme, Margin) or 1e-3 <= victim.scheme.step_size <= 0.1


def test_random_points_reach_everything() -> None:
    victims = drawn(swept(SPACE, kind="random", samples=60))
    assert {victim.recipe.epochs for victim in victims} == {2, 3, 4}
    assert {victim.scheme.kind for victim in victims} == {"none", "margin"}
    sizes = [victim.scheme.step_size for victim in victims if isinstance(victim.scheme, Margin)]
    assert 0.25 < sum(size < 1e-2 for size in sizes) / len(sizes) < 0.75, "half the decades lie below 0.01"


def test_random_points_are_crossed_with_grids() -> None:
    victims = drawn(swept(SPACE | {"seed": {"grid": [0, 1, 2]}}, kind="random", samples=2))
    assert [victim.seed for victim in victims] == [0, 1, 2] * 2
    assert len({victim.recipe.lr for victim in victims}) == 2


# Suggestions


def suggested(folder: Path, samples: int = 6, seed: int = 0) -> Suggested:
    """A search by Optuna whose study lies in `folder`."""
    source = Suggested(swept(SPACE, kind="optuna", samples=samples, seed=seed), folder)
    assert source.total == samples
    return source


def measures(victim: Victim) -> dict[str, float]:
    """Something to be large."""
    return {"clean_acc": victim.recipe.lr, "worst_query_acc": float(isinstance(victim.scheme, Margin)), "other": 0.0}


def states(source: Suggested) -> list[tuple[str, Any]]:
    """State and objectives of each point, as Optuna keeps them."""
    return [(trial.state.name, trial.values) for trial in source._study.trials]


def ask(source: Suggested) -> tuple[int, Victim]:
    """The next point, which must be there."""
    proposal = source.ask()
    assert proposal is not None
    return proposal


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    first = suggested(tmp_path)
    points = [ask(first) for _ in range(4)]
    first.tell(0, measures(points[0][1]))
    first.tell(1, None)
    first.tell(2, {"clean_acc": 0.5})

    second = suggested(tmp_path)
    assert [ask(second) for _ in range(4)] == points
    for number, victim in points:
        second.tell(number, measures(victim))
    new = [ask(second) for _ in range(2)]
    assert [number for number, _ in new] == [4, 5]
    assert not any(victim in [known for _, known in points] for _, victim in new)
    assert second.ask() is None
    told = [list(measures(points[number][1]).values())[:2] for number in (0, 3)]
    known = [("COMPLETE", told[0]), ("FAIL", None), ("FAIL", None), ("COMPLETE", told[1])]
    assert states(second) == [*known, ("RUNNING", None), ("RUNNING", None)]

    third = suggested(tmp_path)
    assert [ask(third) for _ in range(6)] == [*points, *new]
    assert third.ask() is None
    assert len(states(third)) == 6


def test_a_search_learns_without_a_warning_and_repeats_itself(tmp_path: Path) -> None:
    found: dict[int, list[Victim]] = {}
    for samples in (12, 4):  # Optuna learns from the eleventh point on
        folder = tmp_path / str(samples)
        folder.mkdir()
        source = suggested(folder, samples, seed=3)
        victims = found.setdefault(samples, [])
        while (proposal := source.ask()) is not None:
            source.tell(proposal[0], measures(proposal[1]))
            victims.append(proposal[1])
    assert len(found[12]) == 12
    assert found[12][:4] == found[4]
    assert {victim.scheme.kind for victim in found[12]} == {"none", "margin"}
    assert all(2 <= victim.recipe.epochs <= 4 and 0.1 <= victim.recipe.lr <= 0.3 for victim in found[12])


def test_a_small_log_p_is_good(tmp_path: Path) -> None:
    objectives = ["worst_log10_p", "clean_acc"]
    source = Suggested(swept(SPACE, kind="optuna", samples=1, objectives=objectives), tmp_path)
    assert [direction.name for direction in source._study.directions] == ["MINIMIZE", "MAXIMIZE"]
