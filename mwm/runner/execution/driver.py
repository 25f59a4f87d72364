"""The driver: runs a sweep to its end, or goes on with it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mwm.config.loader import load_yaml
from mwm.config.spec import decode, encode, flatten
from mwm.runner.reporting.progress import Progress
from mwm.runner.reporting.tables import tables
from mwm.runner.sweeps.search import victim_source
from mwm.runner.sweeps.sweep import Sweep, attack_specs
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.sweeps.validation import require_compiler, validate
from mwm.runner.workspace.journal import SWEEP_FILE
from mwm.runner.workspace.location import StorageLocation
from mwm.runner.workspace.lock import sweep_lock
from mwm.storage.filesystem import write_atomic
from mwm.storage.redaction import redact
from mwm.storage.store import Store
from mwm.storage.tracking_uri import resolve_tracking_uri
from mwm.trials.outcome import STATUSES
from mwm.trials.trial import TrialInputs

if TYPE_CHECKING:
    from mwm.runner.execution.recorder import SweepRecorder
    from mwm.runner.tracking.client import Status


def run_sweep(
    sweep: Sweep, console: Console, *, storage: str, address: str | None, tracking_uri: str | None, resume: bool
) -> int:
    """Run a sweep to its end, or go on with it; 0 if every trial is done, 1 if one failed, 130 or 143 if stopped."""
    uri, place = resolve_tracking_uri(tracking_uri), StorageLocation(storage)
    _require_durable_paths(place, uri)
    with place.sweep_dir(sweep.name) as folder:
        _require_same_sweep(sweep, folder, resume=resume)
        elsewhere = address or os.environ.get("RAY_ADDRESS")
        if not elsewhere:
            require_compiler(sweep)
        sets, _ = validate(sweep, download=True)
        # Ray and MLflow take seconds to import: a mistake in the file should not wait for them.
        from mwm.runner.execution.cluster import NODE_SECONDS, check_resources, ray_cluster

        with sweep_lock(folder), ray_cluster(address), _graceful_stop() as stopped:
            patience = NODE_SECONDS if elsewhere else 0.0
            check_resources(sweep.resources, patience=patience, tell=partial(console.out, highlight=False))
            ledger, left = _run(sweep, console, place, folder=folder, sets=sets, uri=uri, stopped=stopped)
    for table in tables(ledger.results()):
        console.print(table)
        console.print()
    _print_summary(console, ledger, folder=folder, uri=uri)
    return 128 + stopped[0] if stopped else int(left > 0)


def _require_durable_paths(place: StorageLocation, uri: str) -> None:
    """Refuse what a submitted job would write into its working directory: Ray deletes that with the job."""
    here = Path.cwd()
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    if not place.is_outside(here):
        raise ValueError(
            f"--storage: {place.display_name} is deleted with this Ray job; name a folder that every node sees"
        )
    if uri.startswith(f"sqlite:///{here}/"):
        raise ValueError(f"--tracking-uri: {uri} is deleted with this Ray job; name a server, or a file elsewhere")


def _require_same_sweep(sweep: Sweep, folder: Path, *, resume: bool) -> None:
    """Refuse a name that stands for another sweep already."""
    path = folder / SWEEP_FILE
    if not path.exists():
        if resume:
            raise ValueError(f"--resume: there is no sweep {sweep.name!r} in {folder.parent}")
        return
    before: Sweep = decode(Sweep, load_yaml(path))
    if before.config_digest != sweep.config_digest:
        raise ValueError(f"name: {sweep.name!r} is another sweep in {folder}; choose a new one by --name")


def _run(
    sweep: Sweep,
    console: Console,
    place: StorageLocation,
    *,
    folder: Path,
    sets: TrialInputs,
    uri: str,
    stopped: list[int],
) -> tuple[SweepRecorder, int]:
    """Run what is left of a sweep; the second result counts the trials that are not done in the end."""
    from mwm.runner.execution.cluster import run_trials
    from mwm.runner.execution.recorder import SweepRecorder
    from mwm.runner.tracking.tracker import Tracker
    from mwm.trials.provenance import provenance

    tags = {**provenance(), "mwm.config_digest": sweep.config_digest, **sweep.tags}
    with Tracker(uri, sweep.name, tags=tags, params=flatten(encode(sweep.search), "search")) as tracker:
        write_atomic(folder / SWEEP_FILE, json.dumps(encode(sweep), indent=1) + "\n")
        source = victim_source(sweep, folder)
        plan = TrialQueue(source, [attack for _, attack in attack_specs(sweep)], sets)
        progress = Progress(console, victims=plan.victims, attacks=plan.attacks)
        ledger = SweepRecorder(sweep.name, folder, tracker, progress, Store(place.store), sets, copy=place.upload)
        left = 1
        try:
            with progress:
                run_trials(plan, ledger, sweep.resources, early_stopping=sweep.early_stopping)
            left = plan.victims + plan.attacks - ledger.count("done") - ledger.count("stopped")
        finally:
            with _signal_handlers(signal.SIG_IGN):  # a second Ctrl-C must not cut off the last rows
                status: Status = "KILLED" if stopped else "FAILED" if left else "FINISHED"
                ledger.close(status, complete=left == 0 and not source.spent)
    if source.spent:
        console.out(f"the budget of {sweep.budget.hours:g} hours is spent: no more victims were begun", highlight=False)
    return ledger, left


@contextmanager
def _signal_handlers(handler: Any) -> Iterator[None]:
    """Let `handler` have SIGTERM and SIGINT for a while."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def _graceful_stop() -> Iterator[list[int]]:
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

    with _signal_handlers(stop):
        yield came


def _print_summary(console: Console, ledger: SweepRecorder, *, folder: Path, uri: str) -> None:
    counts = {status: ledger.count(status) for status in STATUSES}
    ended = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    known = len(ledger.reused)
    which = "all known already, nothing was run" if known == sum(counts.values()) else f"{known} known already"
    ended += f" ({which})" if known else ""
    console.out(f"{ended or 'nothing was run'}; results in {folder / 'results.csv'}", highlight=False)
    here = uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    mlflow = Path(sys.executable).with_name("mlflow")
    words = [str(mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow), "ui"]
    shown = redact(uri)
    command = shlex.join(words if here else [*words, "--backend-store-uri", shown])
    console.out(f"compare the runs: {shown if uri.startswith('http') else command}", highlight=False)
