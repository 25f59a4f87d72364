"""What MLflow has missed of a sweep: replayed from its journal and from the store, without Ray or data sets."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

from rich.console import Console

from mwm.config.loader import load_yaml
from mwm.config.spec import decode, digest, encode, flatten
from mwm.runner.execution.recorder import SweepRecorder
from mwm.runner.reporting.progress import Progress
from mwm.runner.sweeps.study import write_search
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.faults import told_missing
from mwm.runner.tracking.runs import Status
from mwm.runner.tracking.tracker import Tracker
from mwm.runner.workspace.journal import SWEEP_FILE, SweepHistory, read_journal
from mwm.runner.workspace.location import StorageLocation, remove_tune
from mwm.runner.workspace.lock import sweep_lock
from mwm.runner.workspace.status import INCOMPLETE, find_sweep, totals
from mwm.storage.redaction import redact
from mwm.storage.store import Store
from mwm.storage.tracking_uri import experiment_name, resolve_tracking_uri
from mwm.trials.outcome import STATUSES, Outcome, robustness
from mwm.trials.trial import Trial, TrialInputs

FLUSH_EVERY, FLUSH_SECONDS = 50, 60.0
"""So many trials are replayed before MLflow is waited for, and for how long: what waits to be sent is bounded."""


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
        expected = totals(history, {})
        progress = Progress(console, victims=expected["victim"], attacks=expected["attack"])
        where = experiment_name(experiment, name, uri, before=history.begin.get("experiment"))
        tags = {**history.begin.get("provenance", {}), "mwm.config_digest": sweep.config_digest, **sweep.tags}
        how: dict[str, Any] = {"copy": storage.upload, "search": partial(write_search, sweep=sweep)}
        with Tracker(uri, name, tags=tags, params=flatten(encode(sweep.search), "search"), experiment=where) as tracker:
            recorder = SweepRecorder(
                *(name, folder, tracker),
                progress=progress,
                store=Store(storage.store),
                sets=TrialInputs({}),
                **how,
                began=time.monotonic() - (history.end.get("at", history.last) - history.begin["at"]),
                save_at=math.inf,  # until the end the results folder holds more than what was replayed so far
            )
            try:
                with progress:
                    _replay_all(recorder, tracker, sweep=sweep, history=history)
            finally:
                status: Status = history.end.get("status", "KILLED")
                left = recorder.close(status, complete=status == "FINISHED")
    console.out(f"{_counts(recorder)}; brought to {redact(uri)}{_lost(tracker, left)}", highlight=False)
    return INCOMPLETE if left else 0


def _counts(recorder: SweepRecorder) -> str:
    counts = [f"{recorder.count(status)} {status}" for status in STATUSES if recorder.count(status)]
    return ", ".join(counts) or "no trial has ended"


def _lost(tracker: Tracker, left: int) -> str:
    if tracker.missing:
        return f", but for {told_missing(tracker.missing)}"
    return ", but not all" if left else ""


def _replay_all(recorder: SweepRecorder, tracker: Tracker, *, sweep: Sweep, history: SweepHistory) -> None:
    """Replay every trial of a journal, each victim before its attacks."""
    attacks_on: dict[str, list[tuple[Trial, Outcome]]] = defaultdict(list)
    for trial, outcome in _ended(history):
        if trial.attack is None:
            _replay(recorder, tracker, trial=trial, outcome=outcome)
        else:
            attacks_on[outcome.victim_digest].append((trial, outcome))
    for name, ended in attacks_on.items():
        victim = ended[0][0].victim
        if name not in recorder.outcomes:
            _replay_victim(recorder, tracker, victim=Trial(victim=victim), attack=ended[0][1])
        for trial, outcome in ended:
            _replay(recorder, tracker, trial=trial, outcome=outcome)
        if len(ended) == len({digest(encode(attack.resolve(victim))) for _, attack in sweep.attack_specs}):
            tracker.log_late_metrics(name, robustness([outcome for _, outcome in ended]))


def _ended(history: SweepHistory) -> Iterator[tuple[Trial, Outcome]]:
    for record in history.trials.values():
        if record.trial is not None and record.outcome is not None:
            yield decode(Trial, record.trial), Outcome(**record.outcome)


def _replay(recorder: SweepRecorder, tracker: Tracker, *, trial: Trial, outcome: Outcome) -> None:
    recorder.replay(outcome.digest, trial, outcome)
    if len(recorder.outcomes) % FLUSH_EVERY == 0:
        tracker.flush(FLUSH_SECONDS)


def _replay_victim(recorder: SweepRecorder, tracker: Tracker, *, victim: Trial, attack: Outcome) -> None:
    """Show a victim whose own end no journal tells: its attacks' runs have to hang under something."""
    name, data = attack.victim_digest, attack.data_digest
    finished = recorder.find_finished(name)
    if finished is not None:
        recorder.replay(name, victim, finished)
    else:
        tracker.start(victim, digest=name, victim_digest=name, data_digest=data)
