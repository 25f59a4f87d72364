"""The command line, end to end: a real Ray, a real MLflow store, real processes and signals."""

from __future__ import annotations

import csv
import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import launched, sweep
from tests.system.conftest import Join

pytestmark = pytest.mark.slow


def results(folder: Path, name: str = "small") -> list[dict[str, str]]:
    with (folder / "results" / name / "results.csv").open() as file:
        return list(csv.DictReader(file))


def mlflow_runs(folder: Path, name: str = "small") -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None, "no experiment was made"
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def without_time(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    moving = ("seconds", "peak_mib", "mlflow_run_id", "sweep")
    kept = [{key: value for key, value in row.items() if key not in moving} for row in rows]
    return sorted(kept, key=lambda row: row["digest"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A small sweep that ran to its end, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, launched(folder, "run", sweep(folder), "--tag", "message=hello")


def test_run_measures_every_trial(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = undisturbed
    assert done.returncode == 0, done.stderr
    rows = results(folder)
    assert Counter(row["kind"] for row in rows) == {"victim": 2, "attack": 4}
    assert {row["status"] for row in rows} == {"done"}
    assert all(float(row["clean_drop"]) == 0 for row in rows if row["victim.scheme.kind"] == "none")
    assert all(int(row["oracle_calls"]) == 2 * 10 * 128 for row in rows if row["kind"] == "attack")
    assert all(row["worst_query_acc"] for row in rows if row["kind"] == "victim")


def test_run_speaks_plainly(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = undisturbed
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "[6/6]" in done.stdout
    assert "6 done; results in results/small/results.csv" in done.stdout
    for words in ("1 seed; attacks", "students detected", "the least proof"):
        assert words in done.stdout
    assert done.stdout.splitlines()[-1].startswith("compare the runs: /")
    assert all(word not in done.stdout for word in ("Ray", "tune", "Trial"))


def test_mlflow_holds_nested_runs(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    from mlflow import MlflowClient

    folder, _ = undisturbed
    runs = {run.info.run_id: run for run in mlflow_runs(folder)}
    kinds = Counter(run.data.tags["kind"] for run in runs.values())
    assert kinds == {"sweep": 1, "victim": 2, "attack": 4}
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags["message"] == "hello"
        parent = run.data.tags.get("mlflow.parentRunId")
        above = {"sweep": None, "victim": "sweep", "attack": "victim"}[run.data.tags["kind"]]
        assert (runs[parent].data.tags["kind"] if parent else None) == above
        if above is not None:
            assert run.data.params["victim.recipe.weight_decay"] == "0.0001"
            assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    by_id = {row["mlflow_run_id"]: row for row in results(folder)}
    for run_id, row in by_id.items():
        if row["victim.scheme.kind"] == "none":  # one network, whose row tells its score on the key of the other
            assert runs[run_id].data.metrics["key_10.query_acc"] == float(row["query_acc"])
            assert runs[run_id].data.metrics["key_10.log10_p"] == float(row["log10_p"])
            continue
        assert runs[run_id].data.params["victim.scheme.num_queries"] == "10"
        assert runs[run_id].data.metrics["query_acc"] == float(row["query_acc"])
        assert runs[run_id].data.metrics["log10_p"] == float(row["log10_p"])
        for name in ("query_low", "query_high"):
            assert runs[run_id].data.metrics[name] == float(row[name])
        for name in ("proven_1e3", "proven_1e6"):
            assert runs[run_id].data.metrics[name] == (row[name] == "True")
    (whole,) = (run_id for run_id, run in runs.items() if run.data.tags["kind"] == "sweep")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    files = {"report.html", "results.csv", "summary.json", "retention.csv", "heatmap.png", "figures", "tables"}
    assert files <= {file.path for file in client.list_artifacts(whole)}


def test_second_sweep_reuses_victims(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("store/*/*/outcome.json")}
    more = folder / "more"
    more.mkdir()
    path = sweep(more, lambda tree: tree["attacks"].append({"kind": "distillation", "alpha": 0.5}))
    done = launched(folder, "run", path, "--name", "more")
    assert done.returncode == 0, done.stderr
    rows = results(folder, "more")
    assert Counter(row["attack.kind"] for row in rows) == {"": 2, "extraction": 4, "distillation": 2}
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished trial was written again"
    assert len(list(folder.glob("store/*/*/outcome.json"))) == len(before) + 2
    assert "cached\n" in done.stdout
    assert "8 done (6 cached); results in results/more/results.csv" in done.stdout
    again = launched(folder, "run", path, "--name", "more").stdout.splitlines()
    assert "8 done (all cached, nothing was run); results in results/more/results.csv" in again
    assert not [line for line in again if line.startswith("[")], "trials are told as if they had been run"
    assert any("victim clean" in " ".join(line.split()) for line in again), "the table is not shown"


def test_a_cluster_is_joined(join: Join, folder: Path) -> None:
    done = join(folder, folder / "sweep.yaml")
    assert done.returncode == 0, done.stderr
    assert Counter(row["status"] for row in results(folder)) == {"done": 6}


def test_optuna_sweep_runs(join: Join, folder: Path) -> None:
    def searching(tree: dict[str, Any]) -> None:
        tree["search"] = {"kind": "optuna", "num_samples": 3}
        scheme = tree["victim"]["scheme"]["grid"][1]
        space = {"step_size": {"loguniform": [0.001, 0.01]}, "steps": {"integers": [1, 3]}}
        tree["victim"]["scheme"] = scheme | space | {"weight": 1.0, "queries_per_step": "all"}
        tree["victim"]["recipe"]["epochs"] = 15  # enough to leave a watermark

    path = sweep(folder, searching)
    done = join(folder, path)
    assert done.returncode == 0, done.stderr
    rows = results(folder)
    assert Counter(row["kind"] for row in rows) == {"victim": 3, "attack": 6}
    assert len({row["victim.scheme.step_size"] for row in rows}) == 3
    again = join(folder, path, "--resume", "--set", "search.num_samples=4")
    assert again.returncode == 0, again.stderr
    assert "[12/12]" in again.stdout
    kept = [row for row in results(folder) if row["digest"] in {one["digest"] for one in rows}]
    assert without_time(kept) == without_time(rows), "what was found before has changed"
    assert len({row["victim.scheme.step_size"] for row in results(folder)}) == 4
    found = json.loads((folder / "results/small/search.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 4
    assert {trial["digest"] for trial in found["trials"]} == {
        row["digest"] for row in results(folder) if row["kind"] == "victim"
    }
    best = join(folder, folder / "results/small/best-1.yaml")
    assert "3 done (all cached, nothing was run)" in best.stdout, best.stderr
    marks = {run.data.metrics["on_front"] for run in mlflow_runs(folder) if "on_front" in run.data.metrics}
    assert 1.0 in marks


@pytest.mark.parametrize("runs", [[()], pytest.param([(), ("--resume",)], marks=pytest.mark.long)], ids=len)
def test_asha_ends_victims_and_never_attacks(join: Join, folder: Path, runs: list[tuple[str, ...]]) -> None:
    def halving(tree: dict[str, Any]) -> None:
        tree["victim"]["scheme"] = {"kind": "none"}
        tree["victim"]["recipe"] |= {"epochs": 150, "lr": {"grid": [0.05, 1e-7, 2e-7]}}
        tree["attacks"][0]["recipe"] = {"epochs": 1, "batch_size": 128}
        tree["early_stopping"] = {"kind": "asha", "grace_period": 2, "reduction_factor": 2}
        tree["resources"] = {"victim": {"cpus": 1.5}}  # one at a time, and one thread

    path = sweep(folder, halving)
    for words in runs:
        done = join(folder, path, *words)
        assert done.returncode == 0, done.stderr
        found = Counter((row["kind"], row["status"]) for row in results(folder))
        assert found == {("victim", "done"): 1, ("victim", "stopped"): 2, ("attack", "done"): 2}
        ended = [row for row in results(folder) if row["status"] == "stopped"]
        assert all("ended early after epoch" in row["error"] for row in ended)
        assert all(not list(folder.glob(f"store/*/{row['digest']}")) for row in ended), "something was left behind"
        assert Counter(run.info.status for run in mlflow_runs(folder)) == {"FINISHED": 4, "KILLED": 2}


@pytest.mark.long
def test_a_spent_budget_begins_no_victim(join: Join, folder: Path) -> None:
    path = sweep(folder)
    none = join(folder, path, "--set", "limits.hours=1e-7")
    assert none.returncode == 0, none.stderr
    assert "no more victims were begun" in none.stdout
    assert results(folder) == []
    one = join(folder, path, "--set", "limits.victims=1")
    assert one.returncode == 0, one.stderr
    assert Counter((row["kind"], row["status"]) for row in results(folder)) == {
        ("victim", "done"): 1,
        ("attack", "done"): 2,
    }
    whole = join(folder, path)
    assert whole.returncode == 0, whole.stderr
    assert Counter(row["status"] for row in results(folder)) == {"done": 6}
