"""What a user can ask for: run a sweep, or check it."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mwm import report
from mwm.address import without_password
from mwm.check import check as check_sweep
from mwm.config import load
from mwm.plan import Plan
from mwm.progress import Progress, label
from mwm.search import Listed, proposals
from mwm.spec import decode, encode, flatten
from mwm.store import Store, put, writable
from mwm.sweep import OptunaSearch, Sweep, corners, thefts
from mwm.trial import Sets, Trial, Victim, complete_attack, data_key
from mwm.verdict import needed

if TYPE_CHECKING:
    from mwm.ledger import Ledger

SWEEP_FILE = "sweep.json"
SHOWN, PROOF = 40, 0.001


def read(path: Path, overrides: Sequence[str], name: str | None, tags: Sequence[str]) -> Sweep:
    """Read a sweep from YAML, with the overrides of the command line. Raises ValueError, one line per fault."""
    tree = load(path, overrides)
    if name is not None:
        tree["name"] = name
    sweep: Sweep = decode(Sweep, tree)
    own: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise ValueError(f"--tag {tag}: must read key=value")
        own[key] = value
    return replace(sweep, tags={**sweep.tags, **own})


def check(sweep: Sweep, console: Console) -> int:
    """Decode every corner of a sweep and show its trials, counts and resources; starts nothing."""
    sets, notes = check_sweep(sweep, download=False)
    victims, attacks = corners(sweep), [attack for _, attack in thefts(sweep)]
    _show_victims(sweep, victims, console)
    for attack in attacks:
        filled = complete_attack(attack, victims[0])
        assert filled.student is not None, "a student without a network"
        name = label(Trial(victim=victims[0], attack=filled), victim=False)
        console.print(f"attack: {name}, student {filled.student.kind}")
    count = sweep.search.samples if isinstance(sweep.search, OptunaSearch) else Listed(sweep).total
    for stage, number in (("victims", count), ("attacks", count * len(attacks))):
        lease = getattr(sweep.resources, stage[:-1])
        console.print(f"{number} {stage}, each on {lease.cpus:g} CPU and {lease.gpus:g} GPU")
    keys = {(sets[key].classes, one.scheme.num_queries) for one in victims if (key := data_key(one.data)) in sets}
    for classes, queries in sorted(keys):
        matches = needed(queries, classes, PROOF)
        console.print(f"of {queries} queries {matches or 'more than all'} must match for p ≤ {PROOF}")
    for note in notes:
        console.print(f"note: {note}; its sizes were not checked", soft_wrap=True)
    return 0


def _show_victims(sweep: Sweep, victims: Sequence[Victim], console: Console) -> None:
    noun = "victims" if sweep.search.kind == "grid" else "corners of the space"
    table = Table(title=f"{sweep.name}: {noun}", title_justify="left")
    for heading in ("victim", "network", "epochs", "data"):
        table.add_column(heading)
    for victim in victims[:SHOWN]:
        table.add_row(label(Trial(victim=victim)), victim.model.kind, str(victim.recipe.epochs), victim.data.kind)
    console.print(table)
    if len(victims) > SHOWN:
        console.print(f"and {len(victims) - SHOWN} more")


def run(
    sweep: Sweep, console: Console, *, storage: Path, address: str | None, tracking_uri: str | None, resume: bool
) -> int:
    """Run a sweep to its end, or go on with it; 0 if every trial is done, 1 if one failed, 130 or 143 if stopped."""
    folder = storage / "results" / sweep.name
    for place in (storage / "store", folder):
        writable(place)
    _claim(sweep, folder, resume=resume)
    sets, _ = check_sweep(sweep, download=True)
    # Ray and MLflow take seconds to import: a mistake in the file should not wait for them.
    from mwm.cluster import check_resources, joined
    from mwm.tracking import resolve

    uri = resolve(tracking_uri)
    with _alone(folder), joined(address), _stoppable() as stopped:
        check_resources(sweep.resources)
        ledger, left = _conduct(sweep, console, folder, Store(storage / "store"), sets, uri, stopped)
    console.print(report.table(ledger.results()))
    _farewell(console, ledger, folder, uri)
    return 128 + stopped[0] if stopped else int(left > 0)


def _conduct(
    sweep: Sweep, console: Console, folder: Path, store: Store, sets: Sets, uri: str, stopped: list[int]
) -> tuple[Ledger, int]:
    """Run what is left of a sweep; the second result counts the trials that are not done in the end."""
    from mwm.cluster import conduct
    from mwm.ledger import Ledger
    from mwm.provenance import provenance
    from mwm.tracking import Tracker

    tags = {**provenance(), "mwm.config_digest": sweep.question, **sweep.tags}
    tracker = Tracker(uri, sweep.name, tags=tags, params=flatten(encode(sweep.search), "search"))
    put(folder / SWEEP_FILE, json.dumps(encode(sweep), indent=1) + "\n")
    plan = Plan(proposals(sweep, folder), [attack for _, attack in thefts(sweep)], sets)
    progress = Progress(console, victims=plan.victims, attacks=plan.attacks)
    ledger = Ledger(sweep.name, folder, tracker, progress, store, sets)
    left = 1
    try:
        with progress:
            conduct(plan, ledger, sweep.resources, sweep.early_stopping)
        left = plan.victims + plan.attacks - ledger.count("done")
    finally:
        with _handled(signal.SIG_IGN):  # a second Ctrl-C must not cut off the last rows
            ledger.close("KILLED" if stopped else "FAILED" if left else "FINISHED", complete=left == 0)
    return ledger, left


def _claim(sweep: Sweep, folder: Path, *, resume: bool) -> None:
    """Refuse a name that stands for another sweep already."""
    path = folder / SWEEP_FILE
    if not path.exists():
        if resume:
            raise ValueError(f"--resume: there is no sweep {sweep.name!r} in {folder.parent}")
        return
    before: Sweep = decode(Sweep, load(path))
    if before.question != sweep.question:
        raise ValueError(f"name: {sweep.name!r} is another sweep in {folder}; choose a new one by --name")


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Let `handler` have SIGTERM and SIGINT for a while."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second driver off the same sweep; the lock goes with the process that holds it."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"name: {folder.name!r} is being run by another process; choose a new one by --name"
            ) from None
        yield


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Let SIGTERM and SIGINT end a sweep in good order; the list holds the signal that came.

    Enter it after Ray was started: Ray takes both signals for itself.
    """
    came: list[int] = []

    def stop(number: int, frame: Any) -> None:
        del frame
        came.append(number)
        listening = callable(signal.getsignal(signal.SIGUSR1))
        if listening and len(came) == 1:  # Tune is running, and ends in good order
            os.kill(os.getpid(), signal.SIGUSR1)
        else:
            raise SystemExit(128 + number)

    with _handled(stop):
        yield came


def _farewell(console: Console, ledger: Ledger, folder: Path, uri: str) -> None:
    counts = {status: ledger.count(status) for status in ("done", "failed", "skipped")}
    ended = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.out(f"{ended or 'nothing was run'}; results in {folder / 'results.csv'}", highlight=False)
    here = uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    mlflow = Path(sys.executable).with_name("mlflow")
    words = [str(mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow), "ui"]
    shown = without_password(uri)
    command = shlex.join(words if here else [*words, "--backend-store-uri", shown])
    console.out(f"compare the runs: {shown if uri.startswith('http') else command}", highlight=False)
