"""Ray: where trials run. The only module that starts it."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from mwm.config.errors import reason_of
from mwm.config.functions import own_module
from mwm.runner.execution.cores import usable_cores
from mwm.runner.execution.joining import cluster_address, require_cluster, require_short_paths
from mwm.runner.execution.searcher import TrialSearcher
from mwm.runner.execution.worker import trainable
from mwm.runner.sweeps.sweep import EarlyStopping, Resources, Sweep, TrialResources
from mwm.runner.workspace.location import TUNE, remove_tune
from mwm.trials.trial import TrialInputs

NODE_TIMEOUT_S = 300.0
"""How long a joined cluster may take to start a node that can hold a trial."""


@contextmanager
def ray_cluster(address: str | None, functions: Iterable[str] = ()) -> Iterator[None]:
    """Join the Ray cluster at `address` (or RAY_ADDRESS), or start one on this machine for the time being.

    This package goes to the nodes, and so do the modules of `functions` that are not installed.
    Raises ValueError when a cluster that was named cannot be reached.
    """
    joined = cluster_address(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if joined is None:
            require_short_paths()
            ray.init("local", num_cpus=usable_cores(), include_dashboard=False, **quiet)
        else:
            require_cluster(joined, address)
            modules = {Path(__file__).parents[2], *filter(None, map(own_module, functions))}
            ray.init(address=joined, runtime_env={"py_modules": sorted(map(str, modules))}, **quiet)
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        reason = reason_of(error)
        named = f"{'--address' if address else 'RAY_ADDRESS'}: {joined} cannot be joined"
        what = named if joined else "Ray cannot be started on this machine"
        raise ValueError(f"{what}: {reason}") from None
    _silence_ray()
    try:
        yield
    finally:
        ray.shutdown()


def _silence_ray() -> None:
    """Keep Ray's own words off the screen: what they say of a trial is told as the trial's error."""
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # No option silences what raylets say of a dead worker, one long traceback each time.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def check_resources(resources: Resources, *, patience: float = 0.0, tell: Callable[[str], object] = print) -> None:
    """Raise ValueError when no node of the cluster has what a trial takes.

    A node may join within `patience` seconds; `tell` is given the reason for the wait.
    """
    end, waiting = time.monotonic() + patience, False
    while lack := _missing_resources(resources):
        if time.monotonic() >= end:
            raise ValueError(lack)
        if not waiting:
            tell(f"{lack}; waiting for such a node for {patience / 60:g} minutes")
        waiting = True
        time.sleep(1)


def _missing_resources(resources: Resources) -> str:
    """What no node of the cluster has, although a trial takes it; empty if there is nothing."""
    nodes = _nodes()
    for kind, wanted in (("victim", resources.victim), ("attack", resources.attack)):
        for name, key, asked in (("gpus", "GPU", wanted.gpus), ("cpus", "CPU", wanted.cpus)):
            most = max((node.get(key, 0) for node in nodes), default=0)
            if asked > most:
                return f"resources.{kind}.{name}: {asked:g} is not allowed: the largest node has {most:g}"
        if not any(_fit(node, wanted) for node in nodes):
            return f"resources.{kind}: no node has {wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs together"
        if (room := sum(_fit(node, wanted) for node in nodes)) < wanted.workers:
            return f"resources.{kind}.workers: {wanted.workers} is not allowed: the nodes have room for {room}"
    return ""


def concurrent_trials(resources: Resources) -> int:
    """How many trials of the more frugal kind the cluster can run at a time."""
    nodes = _nodes()
    wishes = (resources.victim, resources.attack)
    return max(1, *(sum(_fit(node, wanted) for node in nodes) // wanted.workers for wanted in wishes))


def _fit(node: dict[str, float], wanted: TrialResources) -> int:
    """How many workers that take so much a node can run at a time."""
    by_gpu = node.get("GPU", 0) / wanted.gpus if wanted.gpus else math.inf
    return int(min(by_gpu, node.get("CPU", 0) / wanted.cpus))


def _nodes() -> list[dict[str, float]]:
    """What each node of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def run_trials(searcher: TrialSearcher, sweep: Sweep, *, folder: Path, sets: TrialInputs, store: str) -> None:
    """Run what a searcher suggests to its end on the cluster that was joined; SIGINT or SIGUSR1 ends it early.

    `folder` is the sweep's; trials are made of `sets`, and leave what they make in the store of the root `store`.
    """
    resources, tune_folder = sweep.resources, folder.resolve() / TUNE
    remove_tune(folder)
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # nothing is ever restored from it
        "TUNE_MAX_PENDING_TRIALS_PG": str(concurrent_trials(resources) + 1),
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    held = [ray.put(sets)]  # in a list it stays a reference, which a trial can hand on to workers of its own
    prepared = tune.with_parameters(trainable, held=held, store=store, resources=resources)
    tuner = tune.Tuner(
        tune.with_resources(prepared, lambda config: _placement_group(resources.of_trial(config))),
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=_scheduler(sweep.early_stopping), num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name=tune_folder.name,
            storage_path=str(tune_folder.parent),
            verbose=0,
            progress_reporter=tune.CLIReporter(),  # silent here; the one for notebooks would clear what they show
        ),
    )
    try:
        tuner.fit()
        searcher.collect_finished()
    finally:
        remove_tune(folder)


class _FifoScheduler(FIFOScheduler):
    """Tune begins pending trials in their order anyway; to choose one, it would look at all there ever were."""

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None."""


class _AshaScheduler(_FifoScheduler, AsyncHyperBandScheduler):
    """ASHA."""


def _scheduler(early_stopping: EarlyStopping | None) -> FIFOScheduler:
    if early_stopping is None:
        return _FifoScheduler()  # type: ignore[no-untyped-call]
    return _AshaScheduler(
        time_attr="epoch",
        metric=early_stopping.metric,
        mode="max",
        max_t=10**9,  # a victim that goes on to its last epoch has to report its outcome, too
        grace_period=early_stopping.grace_period,
        reduction_factor=early_stopping.reduction_factor,
    )


def _placement_group(wanted: TrialResources) -> tune.PlacementGroupFactory:
    """A place for each worker of a trial, all of them or none; the trial itself is the first."""
    return tune.PlacementGroupFactory([{"CPU": wanted.cpus, "GPU": wanted.gpus}] * wanted.workers)
