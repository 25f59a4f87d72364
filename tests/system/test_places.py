"""Real sweeps in folders with odd names, on a drive without locks, and with drivers that end before their sweep."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mwm.storage.addresses import sqlite_uri
from tests.helpers.driver import driving, wait_for
from tests.helpers.launching import command, environment, launched, sweep
from tests.helpers.lockless import lockless

pytestmark = pytest.mark.slow

HERE = 'it\'s {exp} "why? not" 50%20done:@é'
THERE = "a#b [red]&\\ {0} %41?x=1\n~root"


def tiny(tree: dict[str, Any]) -> None:
    """One victim that Optuna suggests, of one epoch, and one attack."""
    tree["victim"]["scheme"] = {"kind": "trigger_set", "num_queries": 10}
    tree["victim"]["recipe"] = {"epochs": 1, "batch_size": 128, "lr": {"uniform": [0.01, 0.1]}}
    tree["search"] = {"kind": "optuna", "num_samples": 1}
    tree["attacks"] = [{"kind": "extraction", "labels": "hard"}]


def test_odd_names_on_a_drive_without_locks(tmp_path: Path) -> None:
    here, storage = tmp_path / HERE, tmp_path / "drive" / THERE
    for folder in (here, storage):
        folder.mkdir(parents=True)
    drive = environment() | lockless(tmp_path / "drive", errno.ENOLCK, tmp_path)
    asked = command("run", sweep(here, tiny), "--storage", storage)
    done = subprocess.run(asked, cwd=here, env=drive, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {HERE, "drive", "lockless.c", "lockless.so"}
    assert {path.name for path in (tmp_path / "drive").iterdir()} == {THERE}
    assert {path.name for path in here.iterdir()} == {"sweep.yaml", "mlflow.db", "mlruns"}
    assert (storage / "results" / "small" / "optuna.db").stat().st_size
    client = MlflowClient(sqlite_uri(here / "mlflow.db"))
    experiments = client.search_experiments()
    runs = client.search_runs([one.experiment_id for one in experiments])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 3
    top = next(run for run in runs if run.data.tags["kind"] == "sweep")
    assert "results.csv" in {file.path for file in client.list_artifacts(top.info.run_id)}
    told = subprocess.run(
        command("status", "small", "--json", "--storage", storage), cwd=here, env=drive, capture_output=True, check=True
    )
    assert json.loads(told.stdout)["state"] == "finished"


def test_a_driver_that_fails_says_why_and_leaves_no_pickles(tmp_path: Path) -> None:
    wrong = environment() | {"TUNE_RESULT_BUFFER_LENGTH": "many"}
    asked = command("run", sweep(tmp_path, tiny))
    done = subprocess.run(asked, cwd=tmp_path, env=wrong, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert not (tmp_path / "results" / "small" / "tune").exists()
    told = json.loads(launched(tmp_path, "status", "small", "--json").stdout)
    assert (told["state"], told["reason"].partition(":")[0]) == ("failed", "ValueError")
    assert "'many'" in told["reason"]


def test_what_a_killed_driver_leaves_goes_with_the_next_command(tmp_path: Path) -> None:
    sweep(tmp_path, tiny)
    folder = tmp_path / "results" / "small"
    with driving(tmp_path) as driver:
        wait_for(lambda: list((folder / "tune").glob("*")), driver)
        driver.kill(power=True)
    assert (folder / "tune").is_dir()
    lines = launched(tmp_path, "status", "small").stdout.splitlines()
    assert lines[:2] == [
        "small: interrupted",
        "reason   its driver ended without a word: it was killed, or its machine stopped",
    ]
    assert f"{Path('results/small/tune')}: " in launched(tmp_path, "clean").stdout
    assert launched(tmp_path, "clean", "--delete").returncode == 0
    assert not (folder / "tune").exists()
