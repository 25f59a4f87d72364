"""A watermark embedded in a trained network, end to end: by the shipped sweep, with students that start warm."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import save_file

import mwm
from tests.helpers.launching import ROOT, launched
from tests.system.conftest import Join
from tests.system.test_launch import mlflow_runs, results

pytestmark = pytest.mark.slow
SWEEP = ROOT / "tune_configs" / "embed.yaml"
SHORT = ("--set", "victim.seed=0", "--set", "attacks.0.recipe.epochs=2", "--set", "attacks.1.recipe.epochs=2")


@pytest.fixture(scope="module")
def embedded(join: Join, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The shipped sweep with short attacks, from a network that was trained in a notebook, and what it printed."""
    folder = tmp_path_factory.mktemp("embed")
    plain = mwm.train_victim(
        data="digits",
        split={"validation": 40, "queries": 100},
        model=mwm.Cnn(width=32),
        scheme=mwm.Unwatermarked(),
        recipe=mwm.Recipe(epochs=8, momentum=0.9, schedule=mwm.Cosine()),
        device="cpu",
    )
    save_file(plain.model.state_dict(), folder / "network.safetensors")
    return folder, join(folder, SWEEP, *SHORT)


def test_a_watermark_is_embedded_and_told_beside_its_start(
    embedded: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = embedded
    assert (done.returncode, done.stderr) == (0, "")
    rows = results(folder, "embed")
    assert Counter((row["kind"], row["status"]) for row in rows if row["victim.scheme.kind"] != "none") == {
        ("victim", "done"): 2,
        ("attack", "done"): 4,
    }
    victims = {row["victim.scheme.kind"]: row for row in rows if row["kind"] == "victim"}
    (start,) = {row["start_acc"] for row in victims.values()}
    assert float(start) > 0.9
    assert victims["margin"]["proven_1e6"] == "True"
    assert f"start {float(start):.3f}".replace("0.", ".") in done.stdout
    told = {run.data.metrics["start_acc"] for run in mlflow_runs(folder, "embed") if run.data.tags["kind"] == "victim"}
    assert told == {float(start)}


def test_a_warm_student_knows_what_a_fresh_one_has_yet_to_learn(
    embedded: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = embedded
    students = [row for row in results(folder, "embed") if row["kind"] == "attack"]
    warm = [float(row["clean_acc"]) for row in students if row["attack.start"]]
    fresh = [float(row["clean_acc"]) for row in students if not row["attack.start"]]
    assert len(warm) == len(fresh)
    assert min(warm) > max(fresh)


def test_without_the_weights_nothing_is_started(tmp_path: Path) -> None:
    done = launched(tmp_path, "run", SWEEP)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("victim.start: network.safetensors cannot be read (")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()
