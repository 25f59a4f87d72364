"""What a search by Optuna has found: the front, importance, and sweeps that can be run."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mwm.config.spec import digest, encode
from mwm.runner.sweeps.search import OptunaSource
from mwm.runner.sweeps.study import MOST_BEST, write_search
from mwm.runner.sweeps.sweep import Sweep, load_sweep
from mwm.trials.trial import Victim
from tests.helpers.records import SPACE, swept

ONE = SPACE | {
    "scheme": {
        "kind": "margin",
        "num_queries": {"choice": [9, 5]},
        "step_size": {"loguniform": [1e-3, 1e-1]},
        "steps": {"integers": [1, 4]},
    }
}
"""A space in which every trial has every parameter."""


def searched(
    folder: Path, tree: dict[str, Any] | None = None, samples: int = 12, **how: Any
) -> tuple[Sweep, dict[str, Victim]]:
    """A search whose first objective is the learning rate, and the second one the epochs; its victims by digest."""
    sweep = swept(tree or ONE, kind="optuna", num_samples=samples, **how)
    source, victims = OptunaSource(sweep, folder), {}
    while (asked := source.ask()) is not None:
        number, victim = asked
        victims[digest(encode(victim))] = victim
        lost = number == 3
        measured = {"clean_acc": victim.recipe.lr, "worst_query_acc": float(victim.recipe.epochs), "query_acc": 0.5}
        source.tell(number, None if lost else measured)
    return sweep, victims


def found(folder: Path) -> dict[str, Any]:
    """What search.json holds."""
    told: dict[str, Any] = json.loads((folder / "search.json").read_text())
    return told


def beats(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether a trial is as good in everything, and better in something."""
    return all(one[name] >= other[name] for name in one) and one != other


def test_the_front_is_what_no_trial_beats(tmp_path: Path) -> None:
    sweep, victims = searched(tmp_path)
    marks = write_search(tmp_path, sweep, victims)
    told = found(tmp_path)
    assert told["objectives"] == {"clean_acc": "maximize", "worst_query_acc": "maximize"}
    done = [trial for trial in told["trials"] if trial["state"] == "done"]
    assert [trial["number"] for trial in told["trials"] if trial["state"] == "failed"] == [3]
    assert len(done) == 11
    best = [one["number"] for one in done if not any(beats(other["objectives"], one["objectives"]) for other in done)]
    assert sorted(told["front"]) == best
    first = [told["trials"][number]["objectives"]["clean_acc"] for number in told["front"]]
    assert first == sorted(first, reverse=True)
    assert marks == {trial["digest"]: float(trial["on_front"]) for trial in done}
    for trial in done:
        victim = victims[trial["digest"]]
        values = trial["parameters"]
        assert values["victim.scheme.num_queries"] == victim.scheme.cells
        assert values["victim.recipe.lr"] == victim.recipe.lr


def test_a_victim_without_a_watermark_is_never_on_the_front(tmp_path: Path) -> None:
    sweep = swept(ONE, kind="optuna", num_samples=4)
    source, victims = OptunaSource(sweep, tmp_path), {}
    while (asked := source.ask()) is not None:
        number, victim = asked
        victims[digest(encode(victim))] = victim
        own = {"clean_acc": 0.9 - number / 10, "query_acc": 0.5}
        source.tell(number, own | ({"worst_query_acc": 0.1} if number else {"marked": False, "log10_p": -1.0}))
    marks = write_search(tmp_path, sweep, victims)
    told = found(tmp_path)
    first = told["trials"][0]
    assert [trial["state"] for trial in told["trials"]] == ["unmarked", "done", "done", "done"]
    assert first["objectives"] == {"clean_acc": 0.9, "worst_query_acc": 0.0}
    assert told["front"] == [1]
    assert marks == {trial["digest"]: float(trial["number"] == 1) for trial in told["trials"]}


def test_one_objective_has_one_best(tmp_path: Path) -> None:
    sweep, victims = searched(tmp_path, objectives=["worst_query_acc"])
    write_search(tmp_path, sweep, victims)
    told = found(tmp_path)
    values = [trial["objectives"].get("worst_query_acc", 0.0) for trial in told["trials"]]
    assert values.count(max(values)) > 1, "several are equally good"
    assert told["front"] == [values.index(max(values))]


def test_a_study_grows_and_stale_files_go(tmp_path: Path) -> None:
    sweep, victims = searched(tmp_path, samples=2)
    stale = tmp_path / "best-7.yaml"
    stale.touch()
    write_search(tmp_path, sweep, victims)
    before = found(tmp_path)["trials"]
    assert not stale.exists()
    sweep, victims = searched(tmp_path, samples=6)
    write_search(tmp_path, sweep, victims)
    parameters = [trial["parameters"] for trial in found(tmp_path)["trials"]]
    assert len(parameters) == 6
    assert parameters[:2] == [trial["parameters"] for trial in before]


def test_importance_finds_what_an_objective_depends_on(tmp_path: Path) -> None:
    sweep, victims = searched(tmp_path, samples=30)
    write_search(tmp_path, sweep, victims)
    told = found(tmp_path)["importance"]
    assert {name: next(iter(shares)) for name, shares in told.items()} == {
        "clean_acc": "victim.recipe.lr",
        "worst_query_acc": "victim.recipe.epochs",
    }
    assert all(sum(shares.values()) == pytest.approx(1, abs=1e-3) for shares in told.values())
    write_search(tmp_path, sweep, victims)
    assert found(tmp_path)["importance"] == told, "chance has changed it"


@pytest.mark.parametrize(
    ("samples", "objective", "why"),
    [(1, "clean_acc", "fewer than two trials are done"), (8, "query_acc", "it is the same in every trial")],
)
def test_where_importance_is_unknown_it_is_said_why(tmp_path: Path, samples: int, objective: str, why: str) -> None:
    sweep, victims = searched(tmp_path, samples=samples, objectives=[objective])
    write_search(tmp_path, sweep, victims)
    assert (found(tmp_path)["importance"], found(tmp_path)["no_importance"]) == ({objective: {}}, {objective: why})


def test_options_are_told_as_they_stand_in_the_file(tmp_path: Path) -> None:
    sweep, victims = searched(tmp_path, SPACE, samples=10)
    write_search(tmp_path, sweep, victims)
    told = found(tmp_path)
    for trial in told["trials"]:
        if trial["digest"]:
            scheme = victims[trial["digest"]].scheme
            assert trial["parameters"]["victim.scheme"] == scheme.kind
            step = trial["parameters"].get("victim.scheme.step_size")
            assert step == getattr(scheme, "step_size", None)
    assert "victim.scheme.step_size" not in told["importance"]["clean_acc"], "not every trial has it"


def test_the_best_can_be_run_and_are_the_trials_that_were(tmp_path: Path) -> None:
    sweep, victims = searched(tmp_path, samples=40)
    sweep = replace(sweep, attacks=({"kind": "extraction", "labels": {"grid": ["soft", "hard"]}},), tags={"no": "1/2"})
    write_search(tmp_path, sweep, victims)
    told = found(tmp_path)
    named = {trial["file"]: trial for trial in told["trials"] if "file" in trial}
    assert sorted(named) == sorted(f"best-{place}.yaml" for place in range(1, 1 + min(len(told["front"]), MOST_BEST)))
    for name, trial in named.items():
        asked = load_sweep(tmp_path / name)
        assert asked.victim_specs == [victims[trial["digest"]]]
        assert asked.attack_specs == sweep.attack_specs
        assert asked.tags == sweep.tags
        assert f"does trial {trial['number']} of the search {sweep.name} measure" in asked.description
        more = load_sweep(tmp_path / name, ["victim.seed={grid: [1, 2, 3]}"])
        assert [victim.seed for victim in more.victim_specs] == [1, 2, 3]


def test_a_line_of_csv_for_each_trial(tmp_path: Path) -> None:
    sweep, victims = searched(tmp_path)
    write_search(tmp_path, sweep, victims)
    with (tmp_path / "search.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    for row, trial in zip(rows, found(tmp_path)["trials"], strict=True):
        assert (row["label"], row["on_front"]) == (trial["label"], str(trial["on_front"]))
        for name, value in (trial["objectives"] | trial["parameters"]).items():
            assert float(row[name]) == value


def test_without_a_study_nothing_is_written(tmp_path: Path) -> None:
    assert write_search(tmp_path, swept(ONE, kind="optuna", num_samples=1), {}) == {}
    assert write_search(tmp_path, swept({**ONE, "scheme": {"kind": "none"}}, kind="random", num_samples=1), {}) == {}
    assert [*tmp_path.iterdir()] == []


def test_a_damaged_study_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match=r"optuna\.db: cannot be read \(") as told:
        write_search(tmp_path, swept(ONE, kind="optuna", num_samples=1), {})
    assert "\n" not in str(told.value)
