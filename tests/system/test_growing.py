"""A sweep that grows under its name: a real Ray, a real MLflow, and every file that tells of it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mwm.runner.sweeps.sweep import load_sweep
from tests.helpers.asking import Say, heard
from tests.helpers.launching import launched, sweep
from tests.system.test_launch import mlflow_runs, results

pytestmark = pytest.mark.slow

GROWN = ("--set", "victim.seed={grid: [0, 1]}", "--set", "attacks.0.labels={grid: [soft, hard]}")
"""Two victims and four attacks more than there were: one soft attack on each of two victims."""

OWN = ("digest", "status", "clean_acc", "query_acc", "log10_p", "oracle_calls", "mlflow_run_id")


def small(folder: Path) -> Path:
    def fewer(tree: dict[str, Any]) -> None:
        tree["attacks"][0]["labels"] = "soft"

    return sweep(folder, fewer)


def told(folder: Path) -> dict[str, dict[str, str]]:
    """What each trial itself is said to be, in the table."""
    return {row["digest"]: {name: row[name] for name in OWN} for row in results(folder)}


def check_mlflow(folder: Path, path: Path, trials: Counter[str]) -> None:
    """Everything hangs below one run of the sweep, and says what the sweep asks now."""
    runs = {run.info.run_id: run for run in mlflow_runs(folder)}
    assert Counter(run.data.tags["kind"] for run in runs.values()) == trials | {"sweep": 1}
    digests = {run.data.tags["mwm.digest"] for run in runs.values() if "mwm.digest" in run.data.tags}
    assert len(digests) == trials.total(), "a trial has two runs"
    (whole,) = (run for run in runs.values() if run.data.tags["kind"] == "sweep")
    asked = load_sweep(path, GROWN[1::2]).config_digest
    assert {run.data.tags["mwm.config_digest"] for run in runs.values()} == {asked}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert whole.data.params == {"search.kind": "grid"}
    assert whole.data.metrics["victims_done"] == trials["victim"]
    for run in runs.values():
        above = runs.get(run.data.tags.get("mlflow.parentRunId", ""))
        kind = run.data.tags["kind"]
        assert (above and above.data.tags["kind"]) == {"sweep": None, "victim": "sweep", "attack": "victim"}[kind]


def test_a_sweep_grows_and_is_told_as_one(folder: Path, mlflow_db: Path, say: Say) -> None:
    path = small(folder)
    first = launched(folder, "run", path)
    assert first.returncode == 0, first.stderr
    before, stored = told(folder), {file: file.stat().st_mtime_ns for file in folder.glob("store/*/*/outcome.json")}
    assert len(before) == 4

    more = launched(folder, "run", path, *GROWN)
    assert more.returncode == 0, more.stderr
    lines = more.stdout.splitlines()
    assert [line for line in lines if "reused" in line] == [
        "the sweep has changed (attacks: {'kind': 'extraction', 'labels': 'hard'}; victim.seed.grid: [0, 1]): "
        "4 finished trials are reused"
    ]
    assert "4 victims of 2 epochs and 8 attacks of 2 epochs, 2 at once" in lines
    assert "12 done (4 cached); results in results/small/results.csv" in lines
    after = told(folder)
    assert (len(after), {name: after[name] for name in before}) == (12, before)
    assert {file: file.stat().st_mtime_ns for file in stored} == stored, "a finished trial was written again"

    trials = Counter({"victim": 4, "attack": 8})
    check_mlflow(folder, path, trials)
    kept = json.loads((folder / "results/small/sweep.json").read_text())
    assert kept["victim"]["seed"] == {"grid": [0, 1]}
    status = json.loads(heard(say, "status", "small", "--json"))
    assert (status["state"], status["counts"]["victims"]["total"], status["counts"]["attacks"]["done"]) == (
        *("finished", 4),
        8,
    )
    assert json.loads((folder / "results/small/summary.json").read_text())["complete"]
    heard(say, "sync", "small")
    check_mlflow(folder, path, trials)
    other = folder / "other"
    other.mkdir()
    shutil.copy(mlflow_db, other / "mlflow.db")
    heard(say, "sync", "small", "--tracking-uri", f"sqlite:///{other / 'mlflow.db'}")
    check_mlflow(other, path, trials)

    files = {file: file.read_bytes() for file in (folder / "results/small").glob("[!.]*.*") if file.is_file()}
    refused = launched(folder, "run", path, *GROWN, "--set", "victim.seed.grid=[1]")
    assert (refused.returncode, refused.stdout) == (2, "")
    reason, *differs = refused.stderr.splitlines()
    assert reason.startswith("name: 'small' is another sweep in results/small: 6 of its 12 finished trials would not")
    assert differs == ["- victim.seed.grid: [0, 1]", "+ victim.seed.grid: [1]"]
    assert {file: file.read_bytes() for file in files} == files
