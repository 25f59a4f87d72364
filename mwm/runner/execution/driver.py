"""The driver: runs a sweep to its end, or resumes it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mwm.config.spec import encode
from mwm.runner.execution.continuation import Continuation, continuation
from mwm.runner.execution.joining import cluster_address
from mwm.runner.execution.page import open_follower
from mwm.runner.reporting.datasets import left_out_lines
from mwm.runner.reporting.progress import Progress
from mwm.runner.reporting.results import TrialResult
from mwm.runner.sweeps.plan import plan_warnings
from mwm.runner.sweeps.search import LimitedSource, victim_source
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.sweeps.validation import require_compiler, validate
from mwm.runner.workspace.heartbeat import Heartbeat
from mwm.runner.workspace.journal import SWEEP_FILE, Journal, read_journal
from mwm.runner.workspace.location import StorageLocation
from mwm.runner.workspace.lock import sweep_lock
from mwm.runner.workspace.status import INCOMPLETE
from mwm.storage.addresses import sqlite_file
from mwm.storage.filesystem import write_atomic
from mwm.storage.redaction import redacted_excerpt
from mwm.storage.store import Store
from mwm.storage.tracking_uri import experiment_name, resolve_tracking_uri
from mwm.trials.outcome import STATUSES
from mwm.trials.provenance import provenance
from mwm.trials.trial import TrialInputs
from mwm.trials.validation import Places

if TYPE_CHECKING:
    from mwm.runner.execution.recorder import SweepRecorder
    from mwm.runner.execution.results import SweepResults
    from mwm.runner.tracking.runs import Status


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """How a sweep ended.

    `counts` are its trials by status, `cached` how many of them were not run by this command, `unmarked` how many of
    its victims carry no watermark. `status` is 0 if every trial is done, INCOMPLETE if one is not, or if a victim is
    unmarked and the sweep does not ask for such victims (`attack_unmarked`), 130 or 143 if a signal stopped it.
    `epochs`: how far each trial is that has begun and not ended. `hours_spent`: it began no more victims, as its limit
    says. The results lie in `folder`, the runs of MLflow at `uri`, in the experiment called `experiment` there and
    `experiment_id` in its addresses.
    """

    results: Sequence[TrialResult] = field(repr=False)
    counts: Mapping[str, int]
    cached: int
    unmarked: int = 0
    status: int
    epochs: Mapping[str, int]
    hours_spent: bool
    folder: Path
    uri: str
    experiment: str
    experiment_id: str


def run_sweep(
    sweep: Sweep,
    console: Console | None = None,
    *,
    storage: str = ".",
    address: str | None = None,
    tracking_uri: str | None = None,
    resume: bool = False,
    experiment: str | None = None,
    trust: bool = False,
) -> SweepRun:
    """Run a sweep to its end, or resume it; on the console (standard output) it shows its progress alone.

    The options are those of `launch.py run`. Raises ValueError for a mistake of the user.
    """
    console = console or Console()
    uri, place, elsewhere = resolve_tracking_uri(tracking_uri), StorageLocation(storage), cluster_address(address)
    _require_durable_paths(place, uri)
    with place.sweep_dir(sweep.name) as folder:
        store = Store(place.store)
        inputs = Places(trust=trust, store=store, tracking_uri=uri)
        _require_begun(sweep, folder, resume=resume, inputs=inputs)
        experiment = experiment_name(experiment, sweep.name, uri, before=read_journal(folder).begin.get("experiment"))
        sets = _loaded(sweep, console, here=not elsewhere, inputs=inputs)
        tell = partial(console.out, highlight=False)
        with sweep_lock(folder, store=place.local_store), _outliving_terminal():
            goes_on = continuation(sweep, folder, sets=sets, store=store)
            # Ray and MLflow take seconds to import: a mistake in the file should not wait for them.
            from mwm.runner.execution.cluster import NODE_TIMEOUT_S, check_resources, ray_cluster

            with ray_cluster(address, sets.sources), _graceful_stop() as stopped:
                check_resources(sweep.resources, patience=NODE_TIMEOUT_S if elsewhere else 0.0, tell=tell)
                for line in plan_warnings(sweep.victim_specs, sets):
                    tell(line)
                if goes_on.told:
                    tell(goes_on.told)
                where = {"uri": uri, "experiment": experiment}
                return _run(sweep, console, place, **where, goes_on=goes_on, sets=sets, stopped=stopped)


def _loaded(sweep: Sweep, console: Console, *, here: bool, inputs: Places) -> TrialInputs:
    """The data of a sweep that was found sound, on this machine if it runs `here`; says what was left out of them."""
    if here:
        require_compiler(sweep)
    sets, _ = validate(sweep, inputs)
    for found in (dataset.findings for dataset in sets.data.values() if dataset.findings):
        for line in left_out_lines(found):
            console.out(line, highlight=False)
    return sets


def _require_durable_paths(place: StorageLocation, uri: str) -> None:
    """Refuse what a submitted job would write into its working directory: Ray deletes that with the job."""
    here = Path.cwd()
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    if not place.is_outside(here):
        raise ValueError(
            f"--storage: {place.display_name} is deleted with this Ray job; name a folder that every node sees"
        )
    if (file := sqlite_file(uri)) is not None and file.is_relative_to(here):
        raise ValueError(f"--tracking-uri: {uri} is deleted with this Ray job; name a server, or a file elsewhere")


def _require_begun(sweep: Sweep, folder: Path, *, resume: bool, inputs: Places) -> None:
    """Refuse to resume what was never begun."""
    if resume and not (folder / SWEEP_FILE).exists():
        validate(sweep, replace(inputs, download=False))  # a mistake in what is asked may be why it is not found
        raise ValueError(f"--resume: there is no sweep {sweep.name!r} in {folder.parent}")


def _run(
    sweep: Sweep,
    console: Console,
    place: StorageLocation,
    *,
    sets: TrialInputs,
    uri: str,
    experiment: str,
    goes_on: Continuation,
    stopped: list[int],
) -> SweepRun:
    """Run what is left of a sweep, and tell MLflow of it."""
    from mwm.runner.execution.results import SweepResults

    made, folder = provenance(), place.results / sweep.name
    before, dropped = goes_on.config_digests[:-1], goes_on.dropped
    with open_follower(uri, sweep, folder, provenance=made, experiment=experiment, before=before) as mlflow:
        place.record_user()
        write_atomic(folder / SWEEP_FILE, json.dumps(encode(sweep), indent=1) + "\n")
        progress = Progress(console)
        results = SweepResults(sweep, folder, Store(place.store), progress.warn, mlflow=mlflow, copy=place.upload)
        told = {"provenance": made, "experiment": experiment, "config_digests": goes_on.config_digests}
        told |= {"dropped": dropped} if dropped else {}
        how = _run_trials(results, progress, sets, stopped=stopped, told=told)
    return SweepRun(
        results=results.all(),
        counts={status: results.count(status) for status in STATUSES},
        unmarked=results.unmarked,
        folder=folder,
        uri=uri,
        experiment=experiment,
        experiment_id=mlflow.experiment_id,
        **how,
    )


def _run_trials(
    results: SweepResults, progress: Progress, sets: TrialInputs, *, stopped: list[int], told: Mapping[str, Any]
) -> dict[str, Any]:
    """Run the trials that are left, and write the journal, whose beginning has what is `told`; how they ended."""
    from mwm.runner.execution.cluster import concurrent_trials, run_trials
    from mwm.runner.execution.recorder import SweepRecorder
    from mwm.runner.execution.searcher import TrialSearcher

    sweep, folder, store = results.sweep, results.folder, results.store
    source = victim_source(sweep, folder, sets)
    attacks = [attack for _, attack in sweep.attack_specs]
    queue = TrialQueue(source, attacks, sets, attack_unmarked=sweep.attack_unmarked)
    journal = Journal(folder, progress.warn, followers=[progress.follow], dropped=told.get("dropped", ()))
    recorder = SweepRecorder(results, journal, sets)
    searcher = TrialSearcher(queue, recorder, store=store, sets=sets)
    plan = {"totals": queue.totals, "slots": concurrent_trials(sweep.resources), "epochs": _mean_epochs(sweep)}
    recorder.journal.begin(**plan, **told)
    with closing(Heartbeat(folder, progress.snapshot)), _recorded_end(recorder, source, stopped) as left:
        with progress:
            run_trials(searcher, sweep, folder=folder, sets=sets, store=store.root)
        left[0] = queue.victims + queue.attacks - results.count("done") - results.count("stopped")
        left[0] += 0 if sweep.attack_unmarked else results.unmarked
    status = 128 + stopped[0] if stopped else INCOMPLETE * (left[0] > 0)
    return {
        "status": status,
        "cached": len(recorder.cached),
        "epochs": searcher.epochs,
        "hours_spent": source.spent,
    }


def _mean_epochs(sweep: Sweep) -> dict[str, float]:
    """How many epochs a trial of each kind has; of a space to draw from, that of its corners."""
    victims = sweep.victim_specs
    attacks = [attack.resolve(victims[0]).epochs() for _, attack in sweep.attack_specs]
    return {"victim": fmean(victim.recipe.epochs for victim in victims), "attack": fmean(attacks) if attacks else 0.0}


@contextmanager
def _recorded_end(recorder: SweepRecorder, source: LimitedSource, stopped: list[int]) -> Iterator[list[int]]:
    """Record how a sweep ends, and why if its driver ends before; the list takes how many trials are not as asked.

    Those that are not done, and unmarked victims.
    """
    left, reason = [1], ""
    try:
        yield left
    except BaseException as error:
        reason = redacted_excerpt(f"{type(error).__name__}: {error}")
        raise
    finally:
        with _signal_handlers(signal.SIG_IGN):  # a second Ctrl-C must not cut off the last rows
            status: Status = "KILLED" if stopped else "FAILED" if left[0] else "FINISHED"
            reason = f"stopped by {signal.Signals(stopped[0]).name}" if stopped else reason
            recorder.close(status, complete=left[0] == 0 and not source.spent, reason=reason)


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
def _outliving_terminal() -> Iterator[None]:
    """Ignore SIGHUP, which comes when a terminal closes; enter it before Ray is started, whose processes inherit it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


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
