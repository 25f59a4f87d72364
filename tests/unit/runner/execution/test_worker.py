"""Threads of a trial: as many as the cores it was leased, whatever ran in its process before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from mwm.runner.execution.cluster import ray_cluster
from mwm.runner.execution.cores import usable_cores
from mwm.runner.execution.process import prepare_process
from mwm.runner.sweeps.sweep import TrialResources
from mwm.runner.sweeps.validation import validate
from tests.benchmarks.driving import opened, run_opened, sweep_of
from tests.helpers.launching import SWEEP
from tests.helpers.processes import telling, told

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(usable_cores() < 2, reason="a trial on two cores needs two cores"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, where every process is told from the first to take one thread."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OMP_NUM_THREADS", "1")
        with ray_cluster(None):
            yield


def conducted(folder: Path, victims: int, attacks: int, leases: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """What the trials of a sweep on a real Ray told of themselves: at their beginning, and at their first step."""
    tree = {**SWEEP, "resources": {stage: {"cpus": cpus} for stage, cpus in leases.items()}}
    tree["victim"] = SWEEP["victim"] | {"scheme": {"kind": "none"}}
    tree["victim"]["seed"] = {"grid": list(range(victims))}
    tree["attacks"] = [{"kind": "extraction", "seed": {"grid": list(range(attacks))}}]
    sweep = sweep_of(tree)
    sets, _ = validate(sweep)
    queue, recorder = opened(sweep, folder, telling(sets, folder / "told"))
    run_opened(queue, recorder, sweep)
    recorder.close("FINISHED", complete=True)
    assert recorder.results.count("done") == victims * (1 + attacks)
    return {what: told(folder / "told", what) for what in ("trial", "step")}


@pytest.mark.parametrize(
    ("leases", "threads"),
    [
        ({"victim": 2, "attack": 0.5}, [1, 1, 1, 1, 2, 2]),
        pytest.param({"victim": 1, "attack": 2}, [1, 1, 2, 2, 2, 2], marks=pytest.mark.long),
    ],
)
def test_a_trial_takes_the_threads_of_its_lease(
    leases: dict[str, float], threads: list[int], cluster: None, tmp_path: Path
) -> None:
    found = conducted(tmp_path, 2, 2, leases)
    assert {line["variable"] for line in found["trial"]} == {"1"}
    assert sorted(line["threads"] for line in found["trial"]) == threads
    assert sorted(line["threads"] for line in found["step"]) == threads
    assert len({line["pid"] for line in found["trial"]}) < len(found["trial"]), "no process was used again"


class Process:
    """A process of Ray's that is used again and again."""

    def threads(self, cpus: float) -> int:
        """How many threads PyTorch has in a trial that has leased so many cores."""
        prepare_process(TrialResources(cpus=cpus))
        return torch.get_num_threads()


def test_the_trial_before_does_not_decide(cluster: None) -> None:
    process: Any = ray.remote(Process).options(num_cpus=1).remote()
    found = [ray.get(process.threads.remote(cpus)) for cpus in (0.5, 2, 1, 2.75, 0.1)]
    assert found == [1, 2, 1, 2, 1]
