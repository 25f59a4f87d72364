"""What MLflow has missed of a sweep: told again from its journal and from the store, without Ray or data sets."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

from rich.console import Console

from mwm.config.loader import load_yaml
from mwm.config.spec import decode, digest, encode, flatten
from mwm.runner.execution.recorder import SweepRecorder
from mwm.runner.reporting.progress import Progress
from mwm.runner.sweeps.sweep import Sweep, attack_specs
from mwm.runner.tracking.client import Status
from mwm.runner.tracking.tracker import Tracker
from mwm.runner.workspace.journal import SWEEP_FILE, SweepHistory, read_journal
from mwm.runner.workspace.location import StorageLocation
from mwm.runner.workspace.lock import sweep_lock
from mwm.runner.workspace.status import find_sweep, totals
from mwm.storage.redaction import redact
from mwm.storage.store import Store
from mwm.storage.tracking_uri import resolve_tracking_uri
from mwm.trials.outcome import STATUSES, Outcome, robustness
from mwm.trials.trial import Trial, TrialInputs, fill_attack_defaults

Ended = list[tuple[Trial, Outcome]]

FLUSH_EVERY, FLUSH_SECONDS = 50, 60.0
"""So many trials are told before MLflow is waited for: what waits to be sent is bounded."""


def sync_mlflow(console: Console, storage: StorageLocation, *, name: str, tracking_uri: str | None) -> int:
    """Bring everything a sweep knows into MLflow; 0, or 1 if MLflow did not take all of it.

    Raises ValueError for a name that there is not, a sweep that is being run, and an MLflow that cannot be reached.
    """
    folder, uri = find_sweep(storage.local_root, name), resolve_tracking_uri(tracking_uri)
    with sweep_lock(folder, "sync"):
        book = read_journal(folder, trials=True)
        if not book.begin:
            console.out(f"{name} has not begun: there is nothing to bring", highlight=False)
            return 0
        sweep: Sweep = decode(Sweep, load_yaml(folder / SWEEP_FILE))
        tags = {**book.begin.get("provenance", {}), "mwm.config_digest": sweep.config_digest, **sweep.tags}
        expected = totals(book, {})
        progress = Progress(console, victims=expected["victim"], attacks=expected["attack"])
        status: Status = book.end.get("status", "KILLED")
        began = time.monotonic() - (book.end.get("at", book.last) - book.begin["at"])
        store, copy = Store(storage.store), storage.upload
        with Tracker(uri, name, tags=tags, params=flatten(encode(sweep.search), "search")) as tracker:
            ledger = SweepRecorder(
                name, folder, tracker, progress, store, TrialInputs({}), began=began, brings=True, copy=copy
            )
            try:
                with progress:
                    _replay_all(ledger, sweep, book)
            finally:
                left = ledger.close(status, complete=status == "FINISHED")
    counts = ", ".join(f"{ledger.count(status)} {status}" for status in STATUSES if ledger.count(status))
    console.out(f"{counts or 'no trial has ended'}; brought to {redact(uri)}", highlight=False)
    return int(left > 0)


def _replay_all(ledger: SweepRecorder, sweep: Sweep, book: SweepHistory) -> None:
    stolen: dict[str, Ended] = defaultdict(list)
    for trial, outcome in _ended(book):
        if trial.attack is None:
            _replay(ledger, trial, outcome)
        else:
            stolen[outcome.victim_digest].append((trial, outcome))
    attacks = [attack for _, attack in attack_specs(sweep)]
    for name, ended in stolen.items():
        victim = ended[0][0].victim
        if name not in ledger.outcomes:
            _recover(ledger, Trial(victim=victim), ended[0][1])
        for trial, outcome in ended:
            _replay(ledger, trial, outcome)
        if len(ended) == len({digest(encode(fill_attack_defaults(attack, victim))) for attack in attacks}):
            ledger.tracker.log_late_metrics(name, robustness([outcome for _, outcome in ended]))


def _replay(ledger: SweepRecorder, trial: Trial, outcome: Outcome) -> None:
    ledger.replay(outcome.digest, trial, outcome)
    if len(ledger.outcomes) % FLUSH_EVERY == 0:
        ledger.tracker.flush(FLUSH_SECONDS)


def _ended(book: SweepHistory) -> Iterator[tuple[Trial, Outcome]]:
    for told in book.trials.values():
        if told.trial is not None and told.outcome is not None:
            yield decode(Trial, told.trial), Outcome(**told.outcome)


def _recover(ledger: SweepRecorder, victim: Trial, attack: Outcome) -> None:
    """Show a victim whose own end no journal tells: its attacks' runs have to hang under something."""
    name, data = attack.victim_digest, attack.data_digest
    known = ledger.find_finished(name)
    if known is not None:
        ledger.replay(name, victim, known)
    else:
        ledger.tracker.start(victim, digest=name, victim_digest=name, data_digest=data)
