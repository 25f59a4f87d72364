"""What MLflow has missed of a sweep: the same follower of its journal, without a driver."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.runner.execution.page import finish_page
from mwm.runner.execution.recorder import SweepResults, mlflow_options
from mwm.runner.reporting.progress import Progress
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.faults import told_missing
from mwm.runner.tracking.follower import Followed, MlflowFollower
from mwm.runner.tracking.runs import Status
from mwm.runner.workspace.journal import SWEEP_FILE, read_events, read_journal
from mwm.runner.workspace.location import PICTURES, StorageLocation, remove_tune
from mwm.runner.workspace.lock import sweep_lock
from mwm.runner.workspace.status import INCOMPLETE, find_sweep, totals
from mwm.storage.redaction import redact
from mwm.storage.store import Store
from mwm.storage.tracking_uri import experiment_name, resolve_tracking_uri
from mwm.trials.outcome import STATUSES, Outcome
from mwm.trials.trial import Trial

Told = tuple[dict[str, Any], int]


def sync_mlflow(
    console: Console, storage: StorageLocation, *, name: str, tracking_uri: str | None, experiment: str | None
) -> int:
    """Bring everything that MLflow lacks of a sweep; 0, or INCOMPLETE if MLflow did not take all of it.

    Without `experiment` it goes where the sweep went last. Raises ValueError for a name that there is not, a sweep that
    is being run, and an MLflow that cannot be reached.
    """
    folder, uri = find_sweep(storage.local_root, name), resolve_tracking_uri(tracking_uri)
    with sweep_lock(folder, "sync", store=storage.local_store):
        remove_tune(folder)
        history = read_journal(folder, trials=True)
        if not history.begin:
            console.out(f"{name} has not begun: there is nothing to bring", highlight=False)
            return 0
        sweep: Sweep = decode(Sweep, load_yaml(folder / SWEEP_FILE))
        progress, store, ready = Progress(console), Store(storage.store), Event()
        progress.follow({"event": "totals", **totals(history, {})})

        def read(position: int) -> Iterator[Told]:
            ready.wait()
            return told(folder, store, position)

        asked = mlflow_options(sweep, history.begin.get("provenance", {}))
        asked["experiment"] = experiment_name(experiment, name, uri, before=history.begin.get("experiment"))
        with MlflowFollower(uri, Followed(name, read, folder, folder / PICTURES), **asked, anew=True) as mlflow:
            how: dict[str, Any] = {"store": store, "copy": storage.upload, "page": partial(finish_page, sweep=sweep)}
            how["began"] = time.monotonic() - (history.end.get("at", history.last) - history.begin["at"])
            how["save_at"] = math.inf  # until the end the results folder holds more than what was read so far
            results = SweepResults(name, folder, mlflow, **how, warn=progress.warn)
            try:
                with progress:
                    _read_all(results, progress)
            finally:
                ready.set()
                status: Status = history.end.get("status", "KILLED")
                left = results.conclude(status, complete=status == "FINISHED")
    console.out(f"{_counts(results)}; brought to {redact(uri)}{_lost(mlflow, left)}", highlight=False)
    return INCOMPLETE if left else 0


def _counts(results: SweepResults) -> str:
    counts = [f"{results.count(status)} {status}" for status in STATUSES if results.count(status)]
    return ", ".join(counts) or "no trial has ended"


def _lost(mlflow: MlflowFollower, left: int) -> str:
    if mlflow.missing:
        return f", but for {told_missing(mlflow.missing)}"
    return ", but not all" if left else ""


def _read_all(results: SweepResults, progress: Progress) -> None:
    """Show what happened in a sweep, and gather what its trials measured, with the pictures of their queries."""
    for event, _ in told(results.folder, results.store):
        if event["event"] in ("start", "epochs", "finish"):  # of all sessions together
            progress.follow(event)
        if event["event"] == "finish":
            trial, outcome = decode(Trial, event["trial"]), Outcome(**event["outcome"])
            results.draw_queries(trial, outcome)
            results.add(outcome.digest, trial, outcome)


def told(folder: Path, store: Store, position: int = 0) -> Iterator[Told]:
    """The events of a journal from a position on, each with the position after it, and what the store knows besides.

    That is how trials ended whose end it does not tell, and all that trials did which an earlier release began.
    """
    begun: dict[str, dict[str, Any]] = {}
    at, after = 0.0, position
    for event, after in read_events(folder, position):
        at = event["at"]
        if event["event"] == "start":
            begun[event["digest"]] = event
        elif event["event"] == "finish":
            began = begun.pop(event["outcome"]["digest"], None)
            if began is not None and "trial" not in began:
                yield from ((early, after) for early in _untold(began, event, store))
        yield event, after
    for number, (name, event) in enumerate(begun.items(), 1):
        outcome = store.outcome(name) if "trial" in event else None
        if outcome is not None:
            end = {"at": at + number / 1000, "event": "finish", "label": event["label"], "trial": event["trial"]}
            yield end | {"outcome": outcome}, after


def _untold(start: dict[str, Any], finish: dict[str, Any], store: Store) -> Iterator[dict[str, Any]]:
    """What a trial did between its start and its end."""
    outcome = finish["outcome"]
    names = {name: outcome[name] for name in ("victim_digest", "data_digest")}
    yield start | names | {"trial": finish["trial"]}
    if outcome["status"] == "done":
        with suppress(OSError, ValueError):  # it was removed, or is damaged: then no epochs are known
            rows = store.rows(outcome["digest"])
            yield {"at": finish["at"] - 0.001, "event": "epochs", "digest": outcome["digest"], "rows": rows}
