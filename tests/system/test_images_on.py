"""What images on the host take: no second copy in memory, and in a sweep on a real Ray the same results."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import ROOT, launched, sweep

pytestmark = pytest.mark.slow

TRIAL = """
import json, re, sys
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from mwm.data.datasets import Dataset
from mwm.models.networks import Cnn
from mwm.data.splits import SplitSizes
from mwm.storage.store import Store
from mwm.training.device import release, retain_freed_memory
from mwm.training.recipe import Recipe
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs, data_key
from tests.helpers.records import CONTROL

place, folder = sys.argv[1:]
torch.set_num_threads(1)
retain_freed_memory()
few, many = (np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for n in (10_000, 100_000))
labels = [np.arange(len(images)) % 4 for images in (few, many)]
recipe = Recipe(epochs=1, batch_size=1000)
victim = replace(CONTROL, split=SplitSizes(), model=Cnn(width=1, depth=1), recipe=recipe)

def trained(x, y, name):
    for one in (x, y):
        one.flags.writeable = False
    sets = TrialInputs({data_key(victim.data): Dataset(x, y, few[:1000], labels[0][:1000], 4, name)}, images_on=place)
    *_, outcome = run(Trial(victim=victim), sets, Store(folder), torch.device("cpu"))
    return outcome.peak_mib

trained(few, labels[0], "few")  # what a first training takes for good is taken by now
release(torch.device("cpu"))
before = int(re.findall(r"^VmRSS:\\s*(\\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)[0]) / 1024
print(json.dumps({"more": trained(many, labels[1], "many") - before, "data": many.nbytes / 2**20}))
"""


def taken(place: str, folder: Path) -> dict[str, float]:
    """MiB that a trial takes beyond what its process had, data included, and the MiB of its data."""
    words = [sys.executable, "-W", "error", "-c", TRIAL, place, str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's account of resident memory")
def test_a_trial_holds_no_second_copy_of_images_on_the_host(tmp_path: Path) -> None:
    host, device = (taken(place, tmp_path / place) for place in ("host", "device"))
    print(host, device)
    assert device["more"] > 0.9 * device["data"], "this measure does not see a copy"
    assert host["more"] < 0.7 * host["data"]


def measured(folder: Path, place: str) -> list[dict[str, str]]:
    """The rows of a small sweep whose images lie in a place, but for times, memory and runs."""
    folder.mkdir()

    def change(tree: dict[str, Any]) -> None:
        tree["victim"]["scheme"] = {"kind": "margin", "num_queries": 10, "steps": 2, "queries_per_step": 4}
        tree["attacks"] = [{"kind": "extraction"}]
        tree["resources"] = {"images_on": place}

    done = launched(folder, "run", sweep(folder, change))
    assert done.returncode == 0, done.stderr
    with (folder / "results" / "small" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    moving = ("seconds", "peak_mib", "mlflow_run_id")
    return [{key: value for key, value in row.items() if key not in moving} for row in rows]


def test_a_sweep_has_the_same_results_from_both_places(tmp_path: Path) -> None:
    """Its workers read images in the object store, where nobody may write."""
    host, device = (measured(tmp_path / place, place) for place in ("host", "device"))
    assert len(host) == 2
    assert {row["status"] for row in host} == {"done"}
    assert sorted(host, key=str) == sorted(device, key=str)
