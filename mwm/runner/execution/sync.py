"""What MLflow has missed of a sweep: told again from its journal and from the store, without Ray or data sets."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

from rich.console import Console

from mwm.config.loader import load
from mwm.config.spec import decode, digest, encode, flatten
from mwm.runner.execution.recorder import Ledger
from mwm.runner.reporting.progress import Progress
from mwm.runner.sweeps.sweep import Sweep, thefts
from mwm.runner.tracking.client import Status
from mwm.runner.tracking.tracker import Tracker
from mwm.runner.workspace.journal import SWEEP_FILE, Book, read
from mwm.runner.workspace.location import Storage
from mwm.runner.workspace.lock import alone
from mwm.runner.workspace.status import find, totals
from mwm.storage.redaction import without_password
from mwm.storage.store import Store
from mwm.storage.tracking_uri import resolve
from mwm.trials.outcome import STATUSES, Outcome, robustness
from mwm.trials.trial import Sets, Trial, complete_attack

Ended = list[tuple[Trial, Outcome]]

TOGETHER, FLUSH_SECONDS = 50, 60.0
"""So many trials are told before MLflow is waited for: what waits to be sent is bounded."""


def sync(console: Console, storage: Storage, *, name: str, tracking_uri: str | None) -> int:
    """Bring everything a sweep knows into MLflow; 0, or 1 if MLflow did not take all of it.

    Raises ValueError for a name that there is not, a sweep that is being run, and an MLflow that cannot be reached.
    """
    folder, uri = find(storage.home, name), resolve(tracking_uri)
    with alone(folder, "sync"):
        book = read(folder, trials=True)
        if not book.begin:
            console.out(f"{name} has not begun: there is nothing to bring", highlight=False)
            return 0
        sweep: Sweep = decode(Sweep, load(folder / SWEEP_FILE))
        tags = {**book.begin.get("provenance", {}), "mwm.config_digest": sweep.question, **sweep.tags}
        expected = totals(book, {})
        progress = Progress(console, victims=expected["victim"], attacks=expected["attack"])
        status: Status = book.end.get("status", "KILLED")
        began = time.monotonic() - (book.end.get("at", book.last) - book.begin["at"])
        store, copy = Store(storage.store), storage.copy
        with Tracker(uri, name, tags=tags, params=flatten(encode(sweep.search), "search")) as tracker:
            ledger = Ledger(name, folder, tracker, progress, store, Sets({}), began=began, brings=True, copy=copy)
            try:
                with progress:
                    _bring(ledger, sweep, book)
            finally:
                left = ledger.close(status, complete=status == "FINISHED")
    counts = ", ".join(f"{ledger.count(status)} {status}" for status in STATUSES if ledger.count(status))
    console.out(f"{counts or 'no trial has ended'}; brought to {without_password(uri)}", highlight=False)
    return int(left > 0)


def _bring(ledger: Ledger, sweep: Sweep, book: Book) -> None:
    stolen: dict[str, Ended] = defaultdict(list)
    for trial, outcome in _ended(book):
        if trial.attack is None:
            _replay(ledger, trial, outcome)
        else:
            stolen[outcome.victim_digest].append((trial, outcome))
    attacks = [attack for _, attack in thefts(sweep)]
    for name, ended in stolen.items():
        victim = ended[0][0].victim
        if name not in ledger.outcomes:
            _recover(ledger, Trial(victim=victim), ended[0][1])
        for trial, outcome in ended:
            _replay(ledger, trial, outcome)
        if len(ended) == len({digest(encode(complete_attack(attack, victim))) for attack in attacks}):
            ledger.tracker.measure(name, robustness([outcome for _, outcome in ended]))


def _replay(ledger: Ledger, trial: Trial, outcome: Outcome) -> None:
    ledger.replay(outcome.digest, trial, outcome)
    if len(ledger.outcomes) % TOGETHER == 0:
        ledger.tracker.flush(FLUSH_SECONDS)


def _ended(book: Book) -> Iterator[tuple[Trial, Outcome]]:
    for told in book.trials.values():
        if told.trial is not None and told.outcome is not None:
            yield decode(Trial, told.trial), Outcome(**told.outcome)


def _recover(ledger: Ledger, victim: Trial, attack: Outcome) -> None:
    """Show a victim whose own end no journal tells: its attacks' runs have to hang under something."""
    name, data = attack.victim_digest, attack.data_digest
    known = ledger.known(name)
    if known is not None:
        ledger.replay(name, victim, known)
    else:
        ledger.tracker.start(victim, digest=name, victim_digest=name, data_digest=data)
