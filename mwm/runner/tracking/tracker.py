"""Epochs and outcomes to MLflow: a run per trial, nested sweep -> victim -> attack, written in nobody's way."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mwm.config.spec import digest as fingerprint
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.faults import check_tags, told_missing, tracking_error
from mwm.runner.tracking.runs import (
    CONFIG,
    DIGEST,
    PARENT,
    REPORTED_METRICS,
    SWEEP,
    RunState,
    Status,
    run_state,
    trial_params,
    trial_tags,
)
from mwm.runner.tracking.writer import BACKLOG, RunWriter
from mwm.trials.names import trial_name
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial

if TYPE_CHECKING:
    from mlflow.entities import Run

ENDED: dict[str, Status] = {"done": "FINISHED", "failed": "FAILED", "skipped": "KILLED", "stopped": "KILLED"}
"""How MLflow calls the ends of a trial."""

KILLED_SECONDS, CLOSE_SECONDS = 60.0, 3600.0
"""How long a tracker sends at its end, while MLflow answers: who is killed has not much time."""


class Tracker:
    """The one writer of a sweep: a run for it in an experiment of MLflow, and nested runs for its trials.

    What the store holds already is found by the digests of trials and continued: what a run lacks is sent to it, also
    when it has ended. Nothing here waits for MLflow but the construction and `close`: a thread sends, in order, and
    keeps what fails. What MLflow refuses for good holds nothing else up; `missing` counts it, by kind. `tags` go to
    every run, `params` to the sweep's. The experiment is called `sweep`, unless another is named. As a context it is
    closed in any case, and at the latest when the process ends in good order.
    Raises ValueError if the store cannot be reached; after that no failure of MLflow reaches the caller.
    """

    def __init__(
        self,
        uri: str,
        sweep: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any] = {},
        experiment: str | None = None,
    ) -> None:
        self._name, self._experiment = sweep, experiment or sweep
        self._tags = {**tags, SWEEP: sweep}
        self._runs: dict[str, RunState] = {}
        self._sweep = RunState()
        self._unconfirmed: dict[str, RunState] = {}
        self._left, self._closed = 0, False
        check_tags(tags)
        try:
            self._server = MlflowExperiment(uri, self._experiment)
            self._recall()
        except Exception as error:
            raise tracking_error(uri, error) from None
        self._writer = RunWriter(self._server)
        self._outbox = self._writer.outbox
        atexit.register(self.close, "KILLED")
        opened: Future[None] = Future()
        try:
            self._outbox.put(partial(self._open, opened))
            opened.result()
        except Exception as error:
            self.close("FAILED")
            raise tracking_error(uri, error) from None
        except BaseException:  # a signal: the request is on its way, and what it makes must not stay running
            self.close("KILLED")
            raise
        self._writer.put_tags(self._sweep, self._tags | {"kind": "sweep"})
        self._writer.put_params(self._sweep, params)

    @property
    def experiment_id(self) -> str:
        """How MLflow calls the experiment in its addresses."""
        return self._server.id

    @property
    def missing(self) -> Mapping[str, int]:
        """How many writes of each kind MLflow has refused for good so far."""
        return self._outbox.missing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close what was not closed: as finished without an exception, failed after an error, else killed."""
        failed: Status = "FAILED" if kind and issubclass(kind, Exception) else "KILLED"
        self.close(failed if kind else "FINISHED")

    def _recall(self) -> None:
        """Learn all runs of the sweep in one search."""
        for run in filter(self._is_mine, self._server.runs()):
            tags, state = run.data.tags, run_state(run)
            if tags.get("kind") == "sweep":
                same = tags.get(CONFIG) == self._tags.get(CONFIG)
                self._sweep = state if same else self._sweep
            elif DIGEST in tags:
                self._runs[tags[DIGEST]] = state

    def _is_mine(self, run: Run) -> bool:
        """Whether a run is of this sweep: an experiment may hold several, and then each says of which it is."""
        return str(run.data.tags.get(SWEEP, self._experiment)) == self._name

    def _open(self, opened: Future[None]) -> None:
        """Create the sweep's run, in the thread that no signal interrupts."""
        try:
            run = self._sweep
            run.id = run.id or self._server.create(self._name, self._tags | {"kind": "sweep"})
            self._server.reopen_run(run.id)
        except Exception as error:
            opened.set_exception(error)
        else:
            opened.set_result(None)

    def start(
        self, trial: Trial, *, digest: str, victim_digest: str, data_digest: str, outcome: Outcome | None = None
    ) -> None:
        """Show a trial as running: its run is found by its digest, or created under its victim's or the sweep's.

        The tag `seed` is the victim's. A run that finished in an earlier session is left as it is, but for what it
        lacks; so is one that ended with the very `outcome`, if one is given.
        """
        parent = self._sweep
        if trial.attack is not None:
            assert victim_digest in self._runs, f"attack {digest} before its victim {victim_digest}"
            parent = self._runs[victim_digest]
        if self._closed:
            return
        run = self._runs.setdefault(digest, RunState())
        ended = run.status in ENDED.values() and run.outcome
        final = run.status == "FINISHED" or (outcome is not None and run.outcome == fingerprint(asdict(outcome)))
        if not run.status:
            names = {DIGEST: digest, "mwm.victim_digest": victim_digest, "mwm.data_digest": data_digest}
            self._outbox.put(partial(self._create, run, parent, trial=trial, names=names), "runs")
        elif run.status != "RUNNING" and not (ended and final):
            self._writer.put(run, "runs", lambda: self._server.reopen_run(run.id))
        if not (ended and final):
            run.status = "RUNNING"
        self._writer.put_parent(run, parent)
        self._writer.put_params(run, trial_params(trial))
        self._writer.put_data_set(run, trial.victim.data, data_digest)

    def _create(self, run: RunState, parent: RunState, *, trial: Trial, names: Mapping[str, str]) -> None:
        if run.asked:  # the answer to the first request may have been lost, but not the request
            for found in self._mine(names[DIGEST]):
                run.id = found.info.run_id
                return
            self._unconfirmed[names[DIGEST]] = run
        run.asked = True
        run.parent = parent.id or self._sweep.id
        name = trial_name(trial)
        run.id = self._server.create(name, {**self._tags, **trial_tags(trial), **names, PARENT: run.parent})

    def _mine(self, digest: str) -> Iterator[Run]:
        """The runs of a trial in this sweep."""
        return filter(self._is_mine, self._server.runs(f"tags.`{DIGEST}` = '{digest}'"))

    def _delete_duplicate_runs(self) -> None:
        """Take back what requests made that were answered too late."""
        for digest, run in self._unconfirmed.items():
            for found in self._mine(digest) if run.id else ():
                if found.info.run_id != run.id:
                    self._server.delete_run(found.info.run_id)

    def log(self, digest: str, row: EpochMetrics) -> None:
        """Log the fields of a row as metrics at the step of its epoch, unless that epoch is there already."""
        run = self._runs[digest]
        if self._closed or row.epoch <= run.epoch:
            return
        run.epoch, run.fresh = row.epoch, True
        if not self._writer.keep_row(run, row):
            self._outbox.warn("backlog", f"{BACKLOG} epochs wait; later ones are kept back for {self._sync_command()}")

    def finish(self, digest: str, outcome: Outcome, *, artifacts: Sequence[Path] = ()) -> None:
        """Log what a trial measured, as metrics at its last epoch, upload `artifacts` and end its run.

        A run that has ended with the very same outcome is not written to, but for files that it lacks.
        """
        run, ended = self._runs[digest], ENDED[outcome.status]
        name = fingerprint(asdict(outcome))
        if self._closed:
            return
        same = run.outcome == name and run.status == ended and not run.fresh
        if not same:
            self._writer.put_rows(run)
            self._writer.put_outcome(run, outcome, name)
        for path in artifacts:
            if path.name not in run.files:
                self._writer.put_file(run, path, listed=True)
        if not same:
            self._writer.put_end(run, ended)
            run.outcome, run.had_error, run.fresh = name, bool(outcome.error), False

    def log_late_metrics(self, digest: str, metrics: Mapping[str, float]) -> None:
        """Log what became known of a trial later, such as a victim's robustness; also after `finish`.

        What rows and outcomes say themselves is left out.
        """
        run = self._runs[digest]
        fresh = {
            key: value
            for key, value in metrics.items()
            if key not in REPORTED_METRICS and run.measured.get(key) != value
        }
        if self._closed or not fresh:
            return
        run.measured |= fresh
        self._writer.put_metrics(run, fresh)

    def run_id(self, digest: str) -> str:
        """The MLflow run of a trial; empty if there is none, or none yet."""
        return self._runs[digest].id if digest in self._runs else ""

    def artifact(self, path: Path) -> None:
        """Upload a file or a folder to the sweep's run."""
        if not self._closed:
            self._writer.put_file(self._sweep, path, listed=False)  # it grows: in each session anew

    def flush(self, seconds: float) -> int:
        """Wait until all is sent, `seconds` at most, less if MLflow stays away; the number of writes left."""
        return self._outbox.flush(seconds)

    def close(self, status: Status) -> int:
        """Send what is left and end all runs: the sweep's as `status`, trials that never finished as killed.

        It takes as long as MLflow answers, but a minute at most for a sweep that was killed. The result counts the
        writes that did not get through; a line on stderr tells of them.
        """
        if self._closed:
            return self._left
        self._closed = True
        atexit.unregister(self.close)
        for run in self._runs.values():
            if run.status == "RUNNING":
                self._writer.put_rows(run)
                self._writer.put_end(run, "KILLED")
        self._writer.put_end(self._sweep, status)
        self._outbox.put(self._delete_duplicate_runs)
        kept_back = sum(run.truncated for run in self._runs.values())
        self._left = self._outbox.close(KILLED_SECONDS if status == "KILLED" else CLOSE_SECONDS) + kept_back
        lost = sum(self.missing.values())
        if unsent := self._left - lost:
            self._outbox.warn("unsent", f"{unsent} writes were not sent; send them later by {self._sync_command()}")
        if lost:
            what = told_missing(self.missing)
            self._outbox.warn("lost", f"not taken: {what}; bring them later by {self._sync_command()}")
        return self._left

    def _sync_command(self) -> str:
        return f"launch.py sync {self._name}"
