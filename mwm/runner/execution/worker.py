"""What runs on a worker of the cluster: one trial, on the device that it was given."""

from __future__ import annotations

import os
import threading
import time
from functools import cache
from typing import Any

import ray
import torch
from ray import tune

from mwm.config.spec import decode
from mwm.runner.sweeps.sweep import Resources, TrialResources
from mwm.storage.filesystem import is_transient
from mwm.storage.store import Store
from mwm.training.device import retain_freed_memory
from mwm.trials.outcome import EpochMetrics, Outcome, TrialReport
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs

REPORT_SECONDS = 1.0
"""Rows travel to the driver at most this often."""


def trainable(config: dict[str, Any], *, sets: TrialInputs, store: str, resources: Resources) -> None:
    """One Tune trial: run a trial on the device it was given and report its rows."""
    trial: Trial = decode(Trial, config)
    _exit_with_parent()
    device = _prepare_process(trial_resources(resources, config))
    tune.report(TrialReport().pack())
    rows: list[EpochMetrics] = []
    reported = time.monotonic()
    try:
        for row in run(trial, sets, Store(store), device):
            if isinstance(row, Outcome):
                tune.report(TrialReport(rows=rows, outcome=row).pack())
                return
            rows.append(row)
            if time.monotonic() - reported >= REPORT_SECONDS:
                tune.report(TrialReport(rows=rows).pack() | ({} if trial.attack else _scheduler_metrics(row)))
                rows, reported = [], time.monotonic()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        tune.report(TrialReport(rows=rows, error=reason, transient=is_transient(error)).pack())
        raise


def _scheduler_metrics(row: EpochMetrics) -> dict[str, Any]:
    """What a scheduler judges a victim by. Attacks never tell it, and so are never ended early."""
    return {"epoch": row.epoch, "val_acc": row.val_acc, "query_acc": row.query_acc}


def trial_resources(resources: Resources, config: dict[str, Any]) -> TrialResources:
    """What a trial takes of the node that it runs on, by its tree."""
    return resources.victim if config["attack"] is None else resources.attack


@cache
def _exit_with_parent() -> None:
    """End this process soon after the one that started it: Ray leaves a trial, and its memory, for a minute more."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), name="parent", daemon=True).start()


def _prepare_process(taken: TrialResources) -> torch.device:
    """Leave nothing of the trial that ran in this process before, and choose the device Ray has given."""
    # As many as its cores: one pool of all cores in every process would have them push each other aside.
    torch.set_num_threads(max(1, int(taken.cpus)))
    retain_freed_memory()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = False
    if not ray.get_gpu_ids() or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_per_process_memory_fraction(min(taken.gpus, 1.0))
    return torch.device("cuda", 0)
