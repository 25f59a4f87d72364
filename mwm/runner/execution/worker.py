"""What runs on a worker of the cluster: one trial, on the device that it was given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import tune

from mwm.config.spec import decode
from mwm.runner.execution.process import exit_with_parent, prepare_process
from mwm.runner.execution.victim_workers import other_workers
from mwm.runner.sweeps.sweep import Resources
from mwm.storage.filesystem import is_transient
from mwm.storage.store import Store
from mwm.trials.outcome import EpochMetrics, Outcome, TrialReport
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs

REPORT_SECONDS = 1.0
"""Rows travel to the driver at most this often."""


def trainable(config: dict[str, Any], *, held: Sequence[Any], store: str, resources: Resources) -> None:
    """One Tune trial: run a trial on the device it was given and report its rows.

    `held` is where Ray's object store has what trials need, a reference alone in a list.
    """
    trial: Trial = decode(Trial, config)
    sets: TrialInputs = replace(ray.get(held[0]), images_on=resources.images_on)
    exit_with_parent()
    device = prepare_process(resources.of_trial(config))
    tune.report(TrialReport().pack())
    rows: list[EpochMetrics] = []
    reported = time.monotonic()
    try:
        with other_workers(config, held[0], store=store, resources=resources, device=device) as share:
            for row in run(trial, sets, Store(store), device, share=share):
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
