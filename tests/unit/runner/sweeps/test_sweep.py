"""Sweeps: what a file says, and where its victims come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mwm.attacks import Attack, Extraction
from mwm.config.loader import load_yaml
from mwm.config.spec import decode, encode
from mwm.runner.sweeps.sweep import Sweep, load_sweep
from mwm.watermarks.schemes import Margin, TriggerSet
from tests.helpers.records import PLAIN, drawn, swept

SHIPPED = sorted((Path(__file__).parents[4] / "tune_configs").rglob("*.y*ml"))


# What a file says


def test_there_are_shipped_sweeps() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_sound(path: Path) -> None:
    sweep: Sweep = decode(Sweep, load_yaml(path))
    assert sweep.victim_specs
    for _, attack in sweep.attack_specs:
        assert decode(Attack, encode(attack)) == attack


def test_a_grid_is_crossed_and_doubles_are_one() -> None:
    scheme = {"grid": ["trigger_set", {"kind": "margin", "steps": {"grid": [1, 5, 5]}}, "margin"]}
    sweep = swept({"scheme": scheme, "seed": {"grid": [0, 1]}})
    expected = [(scheme, seed) for scheme in (TriggerSet(), Margin(steps=1), Margin()) for seed in (0, 1)]
    assert [(victim.scheme, victim.seed) for victim in sweep.victim_specs] == expected
    assert drawn(sweep) == sweep.victim_specs


def test_attacks_are_a_grid_with_paths_and_doubles_are_one() -> None:
    sweep = swept({}, ["extraction", {"kind": "extraction", "labels": {"grid": ["soft", "hard"]}}])
    soft, hard = Extraction(), Extraction(labels="hard")
    assert sweep.attack_specs == [("attacks.0", soft), ("attacks.1", hard)]


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
        ({}, ["extract"], "grid", "attacks.0: kind 'extract' is unknown (did you mean "),
    ],
)
def test_a_wrong_sweep_is_one_line(victim: Any, attacks: Any, search: str, start: str) -> None:
    samples = {} if search == "grid" else {"num_samples": 3}
    sweep = swept(victim, attacks, kind=search, **samples)
    with pytest.raises(ValueError, match=r".") as caught:
        _ = sweep.victim_specs, sweep.attack_specs
    assert str(caught.value).startswith(start)
    assert len(str(caught.value).splitlines()) == 1


def test_objectives_are_those_that_are_measured() -> None:
    search: dict[str, Any] = {"kind": "optuna", "num_samples": 1}
    every = ["clean_acc", "query_acc", "worst_query_acc", "mean_query_acc", "worst_log10_p"]
    assert swept({}, ["extraction"], **search, objectives=every).search.objectives == tuple(every)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"^search\.objectives\.0: 'worst_p' is not allowed: ") as caught:
        swept({}, ["extraction"], **search, objectives=["worst_p"])
    assert "'worst_log10_p'" in str(caught.value)


def test_the_question_is_what_is_asked_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    tree: dict[str, Any] = {"name": "a", "victim": PLAIN}
    same: list[dict[str, Any]] = [
        {"name": "b"},
        {"tags": {"x": "y"}},
        {"resources": {"victim": {"cpus": 2}}},
        {"search": "grid"},
        {"limits": {"victims": 1, "hours": 2}},
    ]
    other: list[dict[str, Any]] = [
        {"victim": PLAIN | {"seed": 1}},
        {"attacks": ["extraction"]},
        {"search": {"kind": "random", "num_samples": 1}},
        {"early_stopping": {"kind": "asha"}},
    ]
    question = decode(Sweep, tree).config_digest
    assert {decode(Sweep, tree | change).config_digest for change in same} == {question}
    assert question not in {decode(Sweep, tree | change).config_digest for change in other}
    monkeypatch.setattr("mwm.runner.sweeps.sweep.METHOD_VERSION", 99)
    assert decode(Sweep, tree).config_digest != question, "results of two methods would share a table"


def test_the_folder_of_verdicts_is_no_name() -> None:
    with pytest.raises(ValueError, match="name: verdicts is not allowed"):
        decode(Sweep, {"name": "verdicts", "victim": PLAIN})


def test_the_question_of_a_sweep_stands_at_the_head_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    body = "name: small\nvictim: {data: digits, model: cnn, scheme: none}\n"
    for head, asked in (
        ("# Question: what survives?\n#   And what not?\n# Cost: little.\n", "what survives? And what not?"),
        ("# a comment\n", ""),
    ):
        path.write_text(head + body)
        assert load_sweep(path).description == asked
    path.write_text("# Question: this?\ndescription: that?\n" + body)
    asking = load_sweep(path)
    assert asking.description == "that?"
    assert asking.config_digest == replace(asking, description="").config_digest
