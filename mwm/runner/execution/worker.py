"""What runs on a worker of the cluster: one trial, on the device that it was given."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import ray
import torch
from ray import tune

from mwm.config.spec import decode
from mwm.runner.sweeps.sweep import Lease, Resources
from mwm.storage.filesystem import passing
from mwm.storage.store import Store
from mwm.training.device import keep_freed
from mwm.trials.outcome import Outcome
from mwm.trials.run import run
from mwm.trials.trial import Sets, Trial

REPORT_SECONDS = 1.0
"""Rows travel to the driver at most this often."""


def work(config: dict[str, Any], *, sets: Sets, store: str, resources: Resources) -> None:
    """One Tune trial: run a trial on the device it was given and report its rows."""
    trial: Trial = decode(Trial, config)
    _end_with_parent()
    device = _fresh(_lease(resources, config))
    tune.report(_message())
    rows: list[dict[str, Any]] = []
    reported = time.monotonic()
    try:
        for row in run(trial, sets, Store(store), device):
            if isinstance(row, Outcome):
                tune.report(_message(rows, outcome=[asdict(row)]))
                return
            rows.append(asdict(row))
            if time.monotonic() - reported >= REPORT_SECONDS:
                tune.report(_message(rows) | (_standing(rows[-1]) if trial.attack is None else {}))
                rows, reported = [], time.monotonic()
    except Exception as error:
        tune.report(_message(rows, error=f"{type(error).__name__}: {error}", passing=passing(error)))
        raise


def _message(
    rows: Sequence[Any] = (), *, outcome: Sequence[Any] = (), error: str = "", passing: bool = False
) -> dict[str, Any]:
    return {"rows": list(rows), "outcome": list(outcome), "error": error, "passing": passing}


def _standing(row: dict[str, Any]) -> dict[str, Any]:
    """What a scheduler judges a victim by. Attacks never tell it, and so are never ended early."""
    return {key: row[key] for key in ("epoch", "val_acc", "query_acc")}


def _lease(resources: Resources, config: dict[str, Any]) -> Lease:
    return resources.victim if config["attack"] is None else resources.attack


@cache
def _end_with_parent() -> None:
    """End this process soon after the one that started it: Ray leaves a trial, and its memory, for a minute more."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), name="parent", daemon=True).start()


def _fresh(lease: Lease) -> torch.device:
    """Leave nothing of the trial that ran in this process before, and choose the device Ray has given."""
    # As many as were leased: one pool of all cores in every process would have them push each other aside.
    torch.set_num_threads(max(1, int(lease.cpus)))
    keep_freed()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = False
    if not ray.get_gpu_ids() or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_per_process_memory_fraction(min(lease.gpus, 1.0))
    return torch.device("cuda", 0)
