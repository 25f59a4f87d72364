"""What MLflow has missed of a sweep: the same follower of its journal, without a driver."""

from __future__ import annotations

import math
from contextlib import suppress

from rich.console import Console

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.runner.execution.page import open_follower
from mwm.runner.execution.results import SweepResults
from mwm.runner.reporting.progress import Progress
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.faults import told_missing
from mwm.runner.tracking.follower import MlflowFollower
from mwm.runner.tracking.runs import Status
from mwm.runner.tracking.writer import event_digest
from mwm.runner.workspace.journal import SWEEP_FILE, Journal, SweepHistory, read_events, read_journal
from mwm.runner.workspace.location import StorageLocation, remove_tune
from mwm.runner.workspace.lock import sweep_lock
from mwm.runner.workspace.status import INCOMPLETE, find_sweep, totals
from mwm.storage.redaction import redact
from mwm.storage.store import Store
from mwm.storage.tracking_uri import experiment_name, resolve_tracking_uri
from mwm.trials.outcome import STATUSES, Outcome
from mwm.trials.trial import Trial


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
        progress, store = Progress(console), Store(storage.store)
        # Until the end the results folder holds more than what was read so far.
        results = SweepResults(sweep, folder, store, progress.warn, copy=storage.upload, save_at=math.inf)
        results.seconds = history.end.get("at", history.last) - history.begin["at"]
        with results.warn_on_error():
            _write_untold_ends(results, history)
        _gather(results, history)
        made = history.begin.get("provenance", {})
        where = experiment_name(experiment, name, uri, before=history.begin.get("experiment"))
        before = history.begin.get("config_digests", ())
        mlflow = open_follower(uri, sweep, folder, provenance=made, experiment=where, before=before, anew=True)
        with mlflow, progress:
            results.mlflow = mlflow
            progress.follow({"event": "totals", **totals(history, {})})
            for event, _ in read_events(folder, torn=True):
                if event["event"] in ("start", "epochs", "finish"):  # of all sessions together
                    with suppress(KeyError, TypeError):  # it is damaged
                        if event_digest(event) in history.trials:
                            progress.follow(event)
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


def _write_untold_ends(results: SweepResults, history: SweepHistory) -> None:
    """Add to the journal of a driver that was killed how trials ended of which the store alone knows it.

    They did at the latest when the driver did: not now.
    """
    untold = {name: one for name, one in history.trials.items() if one.trial and one.outcome is None}
    known = {name: outcome for name in untold if (outcome := results.store.outcome(name))}
    if not known:
        return
    journal = Journal(results.folder, results.warn, clock=lambda: history.last)
    for name, outcome in known.items():
        record = untold[name]
        record.outcome = outcome
        journal.epochs(name, results.store.rows(name))
        journal.finish(record.trial or {}, outcome, record.label)


def _gather(results: SweepResults, history: SweepHistory) -> None:
    """What the trials of a sweep measured, with the pictures of their queries."""
    for record in history.trials.values():
        if record.trial and record.outcome:
            trial, outcome = decode(Trial, record.trial), Outcome(**record.outcome)
            results.draw_queries(trial, outcome)
            results.add(trial, outcome)
