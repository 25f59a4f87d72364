"""White-box attacks, end to end: from YAML through Ray and the store to tables, retention and MLflow, and resumed."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import command, environment, launched, sweep
from tests.system.conftest import Join
from tests.system.test_launch import mlflow_runs, results, without_time

pytestmark = pytest.mark.slow
ATTACKS = [
    {"kind": "fine_tuning", "layers": {"grid": ["last", "all"]}},
    {"kind": "batchnorm_reestimation", "passes": 30, "batch_size": 32},
    {"kind": "extraction", "recipe": {"epochs": 1, "batch_size": 128}},
]


def white_box(tree: dict[str, Any]) -> None:
    tree["attacks"] = ATTACKS


@pytest.fixture(scope="module")
def whole(join: Join, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep with every white-box attack that ran to its end, and what it printed."""
    folder = tmp_path_factory.mktemp("removal")
    return folder, join(folder, sweep(folder, white_box))


def test_white_box_attacks_go_through_everything(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = whole
    assert (done.returncode, done.stderr) == (0, "")
    rows = [row for row in results(folder) if row["kind"] == "attack"]
    assert Counter(row["attack.kind"] for row in rows) == {
        "fine_tuning": 4,
        "batchnorm_reestimation": 2,
        "extraction": 2,
    }
    assert {row["status"] for row in rows} == {"done"}
    for row in rows:
        asked = row["attack.kind"] == "extraction"
        assert (row["oracle_calls"] != "", row["attack.cache_answers"] != "") == (asked, asked)
        assert 0 <= float(row["agreement"]) <= 1
    tuned = {row["attack.layers"] for row in rows if row["attack.kind"] == "fine_tuning"}
    assert tuned == {"last", "all"}
    for words in ("fine_tuning", "batchnorm_reestimation", "students detected", "the least proof"):
        assert words.split("_")[0] in done.stdout


def test_retention_and_worst_cases_hold_attacks_without_oracle_calls(
    whole: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = whole
    with (folder / "results" / "small" / "retention.csv").open() as file:
        curves = list(csv.DictReader(file))
    calls = {line["attack"].split()[0]: line["oracle_calls"] for line in curves}
    assert calls == {"fine_tuning": "", "batchnorm_reestimation": "", "extraction": "1280.0"}
    assert (folder / "results" / "small" / "retention.png").stat().st_size > 10_000
    summary = json.loads((folder / "results" / "small" / "summary.json").read_text())
    strongest = [best for victim in summary["worst_case"] for best in victim["accuracy_drop"].values() if best]
    rows = {(row["attack.kind"], row["query_acc"]) for row in results(folder) if row["kind"] == "attack"}
    assert strongest, "no attack makes a network that is good enough"
    for best in strongest:
        assert (best["attack"]["kind"], str(best["query_acc"])) in rows


def test_mlflow_names_each_attack_with_its_victim(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = whole
    runs = [run for run in mlflow_runs(folder) if run.data.tags["kind"] == "attack"]
    names = [run.data.tags["mlflow.runName"] for run in runs]
    assert len({*names}) == len(names) == 8
    assert "fine_tuning last seed 0 on none seed 0" in names
    assert all(" on margin n=10 " in name or name.endswith(" on none seed 0") for name in names)
    for run in runs:
        black_box = run.data.params["attack.kind"] == "extraction"
        assert ("oracle_calls" in run.data.metrics) == black_box
        assert run.data.metrics["epoch_seconds"] > 0


@pytest.mark.long
def test_an_interrupted_sweep_of_white_box_attacks_is_resumed_bit_for_bit(
    whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            command("run", sweep(tmp_path, white_box)), cwd=tmp_path, env=environment(), stdout=log, stderr=log
        )
        end = time.monotonic() + 120
        while not [*tmp_path.glob("store/*/*/checkpoint.bin")] or len([*tmp_path.glob("store/*/*/outcome.json")]) < 3:
            assert running.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, "the sweep did not get that far"
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait(30)
    done = launched(tmp_path, "run", tmp_path / "sweep.yaml", "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert without_time(results(tmp_path)) == without_time(results(whole[0]))
