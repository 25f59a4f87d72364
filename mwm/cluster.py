"""Ray: where trials run. The only room that starts it."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import ray
import torch
from ray import tune
from ray.tune.search import Searcher

from mwm.ledger import Ledger
from mwm.plan import Plan
from mwm.spec import decode, encode
from mwm.stage import run
from mwm.store import Store
from mwm.sweep import Lease, Resources
from mwm.trial import Outcome, Row, Sets, Trial, data_key, victim_digest

RETRIES = 2
"""How often a trial is tried again after its process or its node died, or an error that no user can mend."""

CONNECT_SECONDS = 5.0
"""How long a named cluster may take to answer at all."""

REPORT_SECONDS = 1.0
"""Rows travel to the driver at most this often."""


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Join the Ray cluster at `address` (or RAY_ADDRESS), or start one on this machine for the time being.

    Raises ValueError when a cluster that was named cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            ray.init("local", include_dashboard=False, **quiet)
        else:
            _reach(address)
            ray.init(address=address, runtime_env={"py_modules": [str(Path(__file__).parent)]}, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "; for a cluster that asks for a token set RAY_AUTH_MODE=token" if address else ""
        raise ValueError(f"--address: {address or 'a cluster of its own'} cannot be joined ({reason}){hint}") from None
    _hush()
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError when nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _hush() -> None:
    """Keep Ray's own words off the screen: what they say of a trial is told as the trial's error."""
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # No option silences what raylets say of a dead worker, one long traceback each time.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def check_resources(resources: Resources) -> None:
    """Raise ValueError when no node of the cluster has what a trial takes."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    for stage in ("victim", "attack"):
        lease: Lease = getattr(resources, stage)
        for name, key, asked in (("gpus", "GPU", lease.gpus), ("cpus", "CPU", lease.cpus)):
            most = max((node.get(key, 0) for node in nodes), default=0)
            if asked > most:
                raise ValueError(f"resources.{stage}.{name}: {asked:g} is not allowed: the largest node has {most:g}")
        if not any(node.get("CPU", 0) >= lease.cpus and node.get("GPU", 0) >= lease.gpus for node in nodes):
            raise ValueError(f"resources.{stage}: no node has {lease.cpus:g} CPUs and {lease.gpus:g} GPUs together")


def slots(resources: Resources) -> int:
    """How many victims the cluster can train at a time."""
    whole = ray.cluster_resources()  # type: ignore[no-untyped-call]
    lease = resources.victim
    by_gpu = int(whole.get("GPU", 0) / lease.gpus) if lease.gpus else 10**6
    return max(1, min(by_gpu, int(whole.get("CPU", 1) / lease.cpus)))


def work(config: dict[str, Any], *, sets: Sets, store: str, resources: Resources) -> None:
    """One Tune trial: run a trial on the device it was given and report its rows."""
    trial: Trial = decode(Trial, config)
    device = _fresh(_lease(resources, config))
    tune.report({"rows": [], "outcome": [], "error": ""})
    rows: list[dict[str, Any]] = []
    reported = time.monotonic()
    try:
        for row in run(trial, sets, Store(Path(store)), device):
            if isinstance(row, Outcome):
                tune.report({"rows": rows, "outcome": [asdict(row)], "error": ""})
                return
            rows.append(asdict(row))
            if time.monotonic() - reported >= REPORT_SECONDS:
                tune.report({"rows": rows, "outcome": [], "error": ""})
                rows, reported = [], time.monotonic()
    except Exception as error:
        tune.report({"rows": rows, "outcome": [], "error": f"{type(error).__name__}: {error}"})
        raise


def _lease(resources: Resources, config: dict[str, Any]) -> Lease:
    return resources.victim if config["attack"] is None else resources.attack


def _fresh(lease: Lease) -> torch.device:
    """Leave nothing of the trial that ran in this process before, and choose the device Ray has given."""
    torch.set_num_threads(max(1, int(lease.cpus)))
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = False
    if not ray.get_gpu_ids():
        return torch.device("cpu")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(lease.gpus, 1.0))
    return torch.device("cuda", 0)


class Staged(Searcher):
    """Tune's view of a plan: it asks for the next trial and hears of every row."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        super().__init__()
        self.plan, self.ledger = plan, ledger
        self.running: dict[str, tuple[str, Trial]] = {}
        self.begun: set[str] = set()
        self.last: dict[str, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher; nothing of this one is ever read back."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial that is not in the store already; None for now, FINISHED for good."""
        while (item := self.plan.next()) is not None:
            name, trial = item
            known = self.ledger.store.outcome(name)
            if known is None:
                self.running[trial_id] = item
                return encode(trial)
            self.ledger.start(name, trial)
            self._finish(name, trial, Outcome(**known))
        return None if self.plan.open else str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Rows have arrived, or the outcome, or word of an error."""
        name, trial = self.running[trial_id]
        if trial_id not in self.begun:
            self.begun.add(trial_id)
            self.ledger.start(name, trial)
        self.ledger.rows(name, trial, [Row(**row) for row in result["rows"]])
        self.last[trial_id] = result

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended, or Tune has given it up: without an outcome it has failed."""
        del result, error
        name, trial = self.running.pop(trial_id)
        self.begun.discard(trial_id)
        last = self.last.pop(trial_id, {"outcome": [], "error": ""})
        if last["outcome"]:
            self._finish(name, trial, Outcome(**last["outcome"][0]))
            return
        self.ledger.start(name, trial)
        reason = last["error"] or f"its process died {RETRIES + 1} times"
        self._finish(name, trial, self._unmeasured(name, trial, "failed", reason))

    def _finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        self.ledger.finish(name, trial, outcome)
        lost = self.plan.finish(name, trial, outcome)
        if measures := self.plan.measures(outcome.victim_digest):
            self.ledger.tracker.measure(outcome.victim_digest, measures)
        self.ledger.progress.total(victims=self.plan.victims, attacks=self.plan.attacks)
        for skipped, theft in lost:
            self.ledger.start(skipped, theft)
            self.ledger.finish(skipped, theft, self._unmeasured(skipped, theft, "skipped", "its victim failed"))

    def _unmeasured(self, name: str, trial: Trial, status: Literal["failed", "skipped"], error: str) -> Outcome:
        sets = self.ledger.sets
        data = sets[data_key(trial.victim.data)].digest
        victim = victim_digest(trial.victim, sets)
        return Outcome(status=status, error=error, digest=name, victim_digest=victim, data_digest=data)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what is finished lies in the store, and the plan is made from it anew."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def conduct(plan: Plan, ledger: Ledger, resources: Resources) -> None:
    """Run a plan to its end on the cluster that was joined; an interrupt (SIGINT, SIGUSR1) ends it early."""
    folder = ledger.folder.resolve() / "tune"
    shutil.rmtree(folder, ignore_errors=True)
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_MAX_PENDING_TRIALS_PG": str(slots(resources) + 1),
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    trainable = tune.with_parameters(work, sets=ledger.sets, store=ledger.store.root, resources=resources)
    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: _bundle(_lease(resources, config))),
        tune_config=tune.TuneConfig(search_alg=Staged(plan, ledger), num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
    tuner.fit()
    shutil.rmtree(folder, ignore_errors=True)


def _bundle(lease: Lease) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([{"CPU": lease.cpus, "GPU": lease.gpus}])
