"""The command line, end to end: a real Ray, a real MLflow store, real processes and signals."""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import command, environment, launched, sweep


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


@pytest.mark.slow
def test_run_measures_every_trial(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = undisturbed
    assert done.returncode == 0, done.stderr
    rows = results(folder)
    assert Counter(row["kind"] for row in rows) == {"victim": 2, "attack": 4}
    assert {row["status"] for row in rows} == {"done"}
    assert all(float(row["clean_drop"]) == 0 for row in rows if row["scheme"] == "none")
    assert all(int(row["oracle_calls"]) == 2 * 10 * 128 for row in rows if row["kind"] == "attack")
    assert all(row["worst_query_acc"] for row in rows if row["kind"] == "victim")


@pytest.mark.slow
def test_run_speaks_plainly(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = undisturbed
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "[6/6]" in done.stdout
    assert "6 done; results in results/small/results.csv" in done.stdout
    for words in ("1 seed; attacks", "students convicted", "the least query accuracy"):
        assert words in done.stdout
    assert done.stdout.rstrip().endswith("mlflow ui")
    assert all(word not in done.stdout for word in ("Ray", "tune", "Trial"))


@pytest.mark.slow
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
            assert run.data.params["victim.scheme.num_queries"] == "10"
            assert run.data.params["victim.recipe.weight_decay"] == "0.0001"
            assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    by_id = {row["mlflow_run_id"]: row for row in results(folder)}
    for run_id, row in by_id.items():
        assert runs[run_id].data.metrics["query_acc"] == float(row["query_acc"])
        assert runs[run_id].data.metrics["log10_p"] == float(row["log10_p"])
        for name in ("query_low", "query_high"):
            assert runs[run_id].data.metrics[name] == float(row[name])
        for name in ("owned_1e3", "owned_1e6"):
            assert runs[run_id].data.metrics[name] == (row[name] == "True")
    (whole,) = (run_id for run_id, run in runs.items() if run.data.tags["kind"] == "sweep")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    files = {"results.csv", "summary.json", "retention.csv", "retention.png"}
    assert files <= {file.path for file in client.list_artifacts(whole)}


@pytest.mark.slow
def test_second_sweep_reuses_victims(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("store/*/*/outcome.json")}
    more = folder / "more"
    more.mkdir()
    path = sweep(more, lambda tree: tree["attacks"].append({"kind": "distillation", "alpha": 0.5}))
    done = launched(folder, "run", path, "--name", "more")
    assert done.returncode == 0, done.stderr
    rows = results(folder, "more")
    assert Counter(row["attack"] for row in rows) == {"": 2, "extraction": 4, "distillation": 2}
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished trial was written again"
    assert len(list(folder.glob("store/*/*/outcome.json"))) == len(before) + 2
    assert "known already\n" in done.stdout
    assert "8 done (6 known already); results in results/more/results.csv" in done.stdout
    again = launched(folder, "run", path, "--name", "more").stdout.splitlines()
    assert "8 done (all known already, nothing was run); results in results/more/results.csv" in again
    assert not [line for line in again if line.startswith("[")], "trials are told as if they had been run"
    assert any("victim clean" in " ".join(line.split()) for line in again), "the table is not shown"


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the sweep ended too early"
        assert time.monotonic() < end, "the sweep did not get that far"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_cluster_is_joined(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    head = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port", str(port)]
    more = ["--num-cpus", "2", "--include-dashboard=false", "--disable-usage-stats"]
    token = environment() | {"RAY_AUTH_MODE": "token"}
    with (tmp_path / "head").open("wb") as log:
        process = subprocess.Popen([*head, *more], env=token, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(lambda: "Ray runtime started" in (tmp_path / "head").read_text(), process)
        address = ["--address", f"127.0.0.1:{port}"]
        asked = command("run", sweep(tmp_path), *address)
        done = subprocess.run(asked, cwd=tmp_path, env=token, capture_output=True, text=True, check=False, timeout=200)
    finally:
        process.terminate()
        process.wait(60)
    assert done.returncode == 0, done.stderr
    assert Counter(row["status"] for row in results(tmp_path)) == {"done": 6}


@pytest.mark.slow
def test_failed_victim_skips_its_attacks(tmp_path: Path) -> None:
    def hopeless(tree: dict[str, Any]) -> None:
        tree["victim"]["recipe"]["lr"] = {"grid": [0.05, 1e30]}
        tree["victim"]["scheme"] = {"kind": "none", "num_queries": 10}

    done = launched(tmp_path, "run", sweep(tmp_path, hopeless))
    assert done.returncode == 1, done.stderr
    counts = Counter((row["kind"], row["status"]) for row in results(tmp_path))
    expected = {("victim", "done"): 1, ("victim", "failed"): 1, ("attack", "done"): 2, ("attack", "skipped"): 2}
    assert counts == expected
    failed = next(row for row in results(tmp_path) if row["status"] == "failed")
    assert "recipe.lr 1e+30" in failed["error"]
    statuses = Counter(run.info.status for run in mlflow_runs(tmp_path))
    assert statuses == {"FINISHED": 3, "FAILED": 2, "KILLED": 2}


@pytest.mark.slow
def test_optuna_sweep_runs(tmp_path: Path) -> None:
    def searching(tree: dict[str, Any]) -> None:
        tree["search"] = {"kind": "optuna", "samples": 3}
        scheme = tree["victim"]["scheme"]["grid"][1]
        tree["victim"]["scheme"] = scheme | {"step_size": {"loguniform": [0.001, 0.05]}, "steps": {"integers": [1, 3]}}

    path = sweep(tmp_path, searching)
    done = launched(tmp_path, "run", path)
    assert done.returncode == 0, done.stderr
    rows = results(tmp_path)
    assert Counter(row["kind"] for row in rows) == {"victim": 3, "attack": 6}
    assert len({row["step_size"] for row in rows}) == 3
    again = launched(tmp_path, "run", path, "--resume", "--set", "search.samples=4")
    assert again.returncode == 0, again.stderr
    assert "[12/12]" in again.stdout
    kept = [row for row in results(tmp_path) if row["digest"] in {one["digest"] for one in rows}]
    assert without_time(kept) == without_time(rows), "what was found before has changed"
    assert len({row["step_size"] for row in results(tmp_path)}) == 4


@pytest.mark.slow
def test_asha_ends_victims_and_never_attacks(tmp_path: Path) -> None:
    def halving(tree: dict[str, Any]) -> None:
        tree["victim"]["scheme"] = {"kind": "none", "num_queries": 10}
        tree["victim"]["recipe"] |= {"epochs": 150, "lr": {"grid": [0.05, 1e-7, 2e-7]}}
        tree["attacks"][0]["recipe"] = {"epochs": 1, "batch_size": 128}
        tree["early_stopping"] = {"kind": "asha", "grace": 2, "reduction": 2}
        tree["resources"] = {"victim": {"cpus": 2}}

    path = sweep(tmp_path, halving)
    for words in ((), ("--resume",)):
        done = launched(tmp_path, "run", path, *words)
        assert done.returncode == 0, done.stderr
        found = Counter((row["kind"], row["status"]) for row in results(tmp_path))
        assert found == {("victim", "done"): 1, ("victim", "stopped"): 2, ("attack", "done"): 2}
        ended = [row for row in results(tmp_path) if row["status"] == "stopped"]
        assert all("ended early after epoch" in row["error"] for row in ended)
        assert all(not list(tmp_path.glob(f"store/*/{row['digest']}")) for row in ended), "something was left behind"
        assert Counter(run.info.status for run in mlflow_runs(tmp_path)) == {"FINISHED": 4, "KILLED": 2}


@pytest.mark.slow
def test_a_spent_budget_begins_no_victim(tmp_path: Path) -> None:
    path = sweep(tmp_path)
    none = launched(tmp_path, "run", path, "--set", "budget.hours=1e-7")
    assert none.returncode == 0, none.stderr
    assert "no more victims were begun" in none.stdout
    assert results(tmp_path) == []
    one = launched(tmp_path, "run", path, "--set", "budget.victims=1")
    assert one.returncode == 0, one.stderr
    assert Counter((row["kind"], row["status"]) for row in results(tmp_path)) == {
        ("victim", "done"): 1,
        ("attack", "done"): 2,
    }
    whole = launched(tmp_path, "run", path)
    assert whole.returncode == 0, whole.stderr
    assert Counter(row["status"] for row in results(tmp_path)) == {"done": 6}
