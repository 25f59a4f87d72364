"""A victim that two workers train on a real Ray: as one worker would, and through the death of either."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.runner.execution.cores import usable_cores
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import Store
from mwm.trials.run import run
from mwm.trials.trial import Trial, trial_digest
from tests.helpers.driver import Driver, driving, family, gone, line, wait_for
from tests.helpers.launching import launched, sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(usable_cores() < 2, reason="two workers need two cores"),
]

EPOCHS = 12


def shared(tree: dict[str, Any]) -> None:
    """One victim, trained by two workers for long enough to be hit."""
    tree["name"] = "shared"
    tree["victim"]["model"]["width"] = 16
    tree["victim"]["recipe"] |= {"epochs": EPOCHS, "batch_size": 64}
    tree["victim"]["scheme"] = {"kind": "margin", "num_queries": 10, "step_size": 0.01, "queries_per_step": 5}
    tree["attacks"] = []
    tree["resources"] = {"victim": {"workers": 2}}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("store/**/model.safetensors")
    return load_file(path)


def checkpointed(folder: Path) -> bool:
    return bool(list(folder.glob("store/**/checkpoint.bin")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Path:
    """A folder in which the sweep has run to its end."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    done = launched(folder, "run", sweep(folder, shared))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 x cpu" in (folder / "results/shared/results.csv").read_text()
    return folder


def test_two_workers_train_the_victim_of_one(undisturbed: Path, tmp_path: Path) -> None:
    """In float32, and so not bit for bit: the losses of the first epochs, and what is learnt in the end."""
    asked: Sweep = decode(Sweep, load_yaml(undisturbed / "sweep.yaml"))
    sets, _ = validate(asked)
    trial = Trial(victim=asked.victim_specs[0])
    alone, together = Store(tmp_path), Store(undisturbed / "store")
    deque(run(trial, sets, alone, torch.device("cpu")), maxlen=0)
    name = trial_digest(trial, sets)
    one, two = alone.outcome(name), together.outcome(name)
    assert one is not None
    assert two is not None, "the digest depends on who trains"
    assert together.rows(name)[0]["loss"] == pytest.approx(alone.rows(name)[0]["loss"], abs=1e-4)
    assert two["clean_acc"] == pytest.approx(one["clean_acc"], abs=0.05)


def first(driver: Driver) -> list[psutil.Process]:
    return driver.trainers()


def second(driver: Driver) -> list[psutil.Process]:
    return [one for one in family(driver.folder) if "_Worker" in line(one)]


@pytest.mark.parametrize("of", [second, first], ids=["second", "first"])
def test_a_killed_worker_costs_an_epoch_at_most(
    of: Callable[[Driver], list[psutil.Process]], undisturbed: Path, folder: Path
) -> None:
    """The trial goes on from its checkpoint and ends with the same bits; the other worker is not left behind."""
    sweep(folder, shared)
    with driving(folder) as driver:
        wait_for(lambda: checkpointed(folder), driver, 300)
        found = of(driver)
        assert len(found) == 1, "there are two workers in all"
        before = [*first(driver), *second(driver)]
        found[0].kill()
        assert driver.wait() == 0, driver.said()
        gone(before)
    assert "Traceback" not in driver.said()
    straight, resumed = weights(undisturbed), weights(folder)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
