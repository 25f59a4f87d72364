"""Epochs and outcomes to MLflow: a run per trial, nested sweep -> victim -> attack, written in nobody's way."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mwm.config.spec import digest as fingerprint
from mwm.runner.tracking.client import (
    PERMANENT_ERRORS,
    REPORTED_METRICS,
    MlflowExperiment,
    RunState,
    Status,
    check_tags,
    run_state,
    to_metrics,
    tracking_error,
    trial_tags,
)
from mwm.runner.tracking.outbox import Outbox
from mwm.trials.names import trial_name
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial

ENDED: dict[str, Status] = {"done": "FINISHED", "failed": "FAILED", "skipped": "KILLED", "stopped": "KILLED"}
"""How MLflow calls the ends of a trial."""

SEND_SECONDS = 5.0
"""Rows of a run are sent at most this often."""

KILLED_SECONDS, CLOSE_SECONDS = 60.0, 3600.0
"""How long a tracker sends at its end, while MLflow answers: who is killed has not much time."""

BATCH, BACKLOG = 100, 100_000
"""Rows that are sent in one request, and that may wait at all."""


class Tracker:
    """The one writer of a sweep: an MLflow experiment named `sweep`, a run for it, and nested runs for its trials.

    What the store holds already is found by the digests of trials and continued. Nothing here waits for MLflow but the
    construction and `close`: a thread sends, in order, and keeps what fails. `tags` go to every run, `params` to the
    sweep's. As a context it is closed in any case, and at the latest when the process ends in good order.
    Raises ValueError if the store cannot be reached; after that no failure of MLflow reaches the caller.
    """

    def __init__(self, uri: str, sweep: str, *, tags: Mapping[str, str], params: Mapping[str, Any] = {}) -> None:
        self._name, self._tags = sweep, dict(tags)
        self._runs: dict[str, RunState] = {}
        self._sweep = RunState()
        self._unconfirmed: dict[str, RunState] = {}
        self._stamp = self._logged = self._sent = self._left = 0
        self._closed = False
        check_tags(tags)
        try:
            self._server = MlflowExperiment(uri, sweep)
            self._recall()
        except Exception as error:
            raise tracking_error(uri, error) from None
        self._outbox = Outbox("MLflow", permanent=PERMANENT_ERRORS, is_reachable=self._server.is_reachable)
        atexit.register(self.close, "KILLED")
        opened: Future[None] = Future()
        try:
            self._outbox.put(partial(self._open, params, opened))
            opened.result()
        except Exception as error:
            self.close("FAILED")
            raise tracking_error(uri, error) from None
        except BaseException:  # a signal: the request is on its way, and what it makes must not stay running
            self.close("KILLED")
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close what was not closed: as finished without an exception, failed after an error, else killed."""
        failed: Status = "FAILED" if kind and issubclass(kind, Exception) else "KILLED"
        self.close(failed if kind else "FINISHED")

    def _recall(self) -> None:
        """Learn all runs of the experiment in one search."""
        for run in self._server.runs():
            tags, state = run.data.tags, run_state(run)
            if tags.get("kind") == "sweep":
                mine = tags.get("mwm.config_digest") == self._tags.get("mwm.config_digest")
                self._sweep = state if mine else self._sweep
            elif "mwm.digest" in tags:
                self._runs[tags["mwm.digest"]] = state

    def _open(self, params: Mapping[str, Any], opened: Future[None]) -> None:
        """Create the sweep's run, in the thread that no signal interrupts."""
        try:
            run, tags = self._sweep, self._tags | {"kind": "sweep"}
            run.id = run.id or self._server.create(self._name, tags)
            self._server.reopen_run(run.id)
            self._server.log_batch(run.id, tags=tags, params={} if run.described else params)
        except Exception as error:
            opened.set_exception(error)
        else:
            opened.set_result(None)

    def start(
        self, trial: Trial, *, digest: str, victim_digest: str, data_digest: str, outcome: Outcome | None = None
    ) -> None:
        """Show a trial as running: its run is found by its digest, or created under its victim's or the sweep's.

        The tag `seed` is the victim's. A run that finished in an earlier session is left as it is; so is one that ended
        with the very `outcome`, if one is given.
        """
        parent = self._sweep
        if trial.attack is not None:
            assert victim_digest in self._runs, f"attack {digest} before its victim {victim_digest}"
            parent = self._runs[victim_digest]
        run = self._runs.setdefault(digest, RunState())
        ended = run.status in ENDED.values() and run.outcome
        final = run.status == "FINISHED" or (outcome is not None and run.outcome == fingerprint(asdict(outcome)))
        if self._closed or (ended and final) or (run.status == "RUNNING" and run.described):
            return
        names = {"mwm.digest": digest, "mwm.victim_digest": victim_digest, "mwm.data_digest": data_digest}
        if run.id:
            self._put(run, lambda: self._server.reopen_run(run.id))
        else:
            self._outbox.put(partial(self._create, run, parent, trial=trial, names=names))
        if not run.described:
            self._put(run, lambda: self._server.log_trial(run.id, trial, data_digest))
        run.status, run.described = "RUNNING", True

    def _create(self, run: RunState, parent: RunState, *, trial: Trial, names: Mapping[str, str]) -> None:
        if run.asked:  # the answer to the first request may have been lost, but not the request
            for found in self._server.runs(_named(names["mwm.digest"])):
                run.id = found.info.run_id
                return
            self._unconfirmed[names["mwm.digest"]] = run
        run.asked = True
        above = {"mlflow.parentRunId": parent.id or self._sweep.id}
        name = trial_name(trial)
        run.id = self._server.create(name, {**self._tags, **trial_tags(trial), **names, **above})

    def _delete_duplicate_runs(self) -> None:
        """Take back what requests made that were answered too late."""
        for digest, run in self._unconfirmed.items():
            for found in self._server.runs(_named(digest)) if run.id else ():
                if found.info.run_id != run.id:
                    self._server.delete_run(found.info.run_id)

    def log(self, digest: str, row: EpochMetrics) -> None:
        """Log the fields of a row as metrics at the step of its epoch, unless that epoch is there already."""
        run = self._runs[digest]
        if self._closed or row.epoch <= run.epoch:
            return
        run.epoch, run.fresh = row.epoch, True
        if run.truncated or self._logged - self._sent >= BACKLOG:
            run.truncated = True  # from here on: what is missing is a run's end, which another session can add
            self._outbox.warn("backlog", f"{BACKLOG} epochs wait; later ones are kept back for {self._sync_command()}")
            return
        run.waiting.append((self._now(), row))
        self._logged += 1
        if time.monotonic() >= run.due:
            self._put_rows(run, droppable=True)

    def finish(self, digest: str, outcome: Outcome, *, artifacts: Sequence[Path] = ()) -> None:
        """Log what a trial measured, as metrics at its last epoch, upload `artifacts` and end its run.

        A run that has ended with the very same outcome is not written to.
        """
        run, ended = self._runs[digest], ENDED[outcome.status]
        name = fingerprint(asdict(outcome))
        if self._closed or (run.outcome == name and run.status == ended and not run.fresh):
            return
        self._put_rows(run)
        said = {"device": outcome.device, "mwm.query_digest": outcome.query_digest, "error": outcome.error}
        tags = {key: value for key, value in said.items() if value or (key == "error" and run.had_error)}
        tags |= {"status": outcome.status, "mwm.outcome": name}
        stamp, step = self._now(), run.epoch
        self._put(
            run, lambda: self._server.log_batch(run.id, points=to_metrics(asdict(outcome), stamp, step), tags=tags)
        )
        for path in artifacts:
            self._upload(run, path)
        self._end(run, ended)
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
        batch = to_metrics(fresh, self._now(), run.epoch)
        self._put(run, lambda: self._server.log_batch(run.id, points=batch))

    def run_id(self, digest: str) -> str:
        """The MLflow run of a trial; empty if there is none, or none yet."""
        return self._runs[digest].id if digest in self._runs else ""

    def artifact(self, path: Path) -> None:
        """Upload a file or a folder to the sweep's run."""
        if not self._closed:
            self._upload(self._sweep, path)

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
                self._put_rows(run)
                self._end(run, "KILLED")
        self._end(self._sweep, status)
        self._outbox.put(self._delete_duplicate_runs)
        kept_back = sum(run.truncated for run in self._runs.values())
        self._left = self._outbox.close(KILLED_SECONDS if status == "KILLED" else CLOSE_SECONDS) + kept_back
        if self._left:
            self._outbox.warn("unsent", f"{self._left} writes were not sent; send them later by {self._sync_command()}")
        return self._left

    def _sync_command(self) -> str:
        return f"launch.py sync {self._name}"

    def _now(self) -> int:
        """A time stamp in ms. None repeats: of two values at one step MLflow shows the later one."""
        self._stamp = max(time.time_ns() // 10**6, self._stamp + 1)
        return self._stamp

    def _put_rows(self, run: RunState, *, droppable: bool = False) -> None:
        if run.waiting:
            run.due = time.monotonic() + SEND_SECONDS
            self._put(run, partial(self._send_rows, run), droppable=droppable)

    def _send_rows(self, run: RunState) -> None:
        """Send all rows that wait by now; what fails goes on waiting."""
        while batch := run.waiting[:BATCH]:
            self._server.log_batch(
                run.id, points=[one for stamp, row in batch for one in to_metrics(asdict(row), stamp, row.epoch)]
            )
            self._forget(run, len(batch))

    def _forget(self, run: RunState, rows: int) -> None:
        del run.waiting[:rows]
        self._sent += rows

    def _upload(self, run: RunState, path: Path) -> None:
        if path.exists():
            self._put(run, lambda: self._server.log_artifact(run.id, path))
        else:
            self._outbox.warn("file", f"{path} is not there and was not uploaded")

    def _end(self, run: RunState, status: Status) -> None:
        run.status = status
        self._outbox.put(partial(self._send_end, run, status, self._now()))

    def _send_end(self, run: RunState, status: Status, stamp: int) -> None:
        self._forget(run, sum(then < stamp for then, _ in run.waiting))  # no repetition has mended these
        if run.id:
            self._server.terminate_run(run.id, status)

    def _put(self, run: RunState, send: Callable[[], object], *, droppable: bool = False) -> None:
        """Queue a write to a run; nothing is sent to one that could not be created."""
        self._outbox.put(lambda: send() if run.id else None, droppable=droppable)


def _named(digest: str) -> str:
    return f"tags.`mwm.digest` = '{digest}'"
