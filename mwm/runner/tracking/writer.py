"""The events of a journal as writes to the runs of an experiment: what is written again changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mwm.config.spec import decode
from mwm.config.spec import digest as fingerprint
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.faults import PERMANENT_ERRORS, error_code
from mwm.runner.tracking.position import Position
from mwm.runner.tracking.runs import (
    CONFIG,
    DIGEST,
    FILES,
    OUTCOME,
    PARENT,
    REPORTED_METRICS,
    MetricPoint,
    RunState,
    Status,
    outcome_tags,
    shown_metrics,
    step_metrics,
    to_metrics,
    trial_params,
    trial_tags,
)
from mwm.runner.tracking.sender import Sender
from mwm.trials.names import trial_name
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial

ENDED: dict[str, Status] = {"done": "FINISHED", "failed": "FAILED", "skipped": "KILLED", "stopped": "KILLED"}
"""How MLflow calls the ends of a trial."""

BATCH = 600
"""Metrics that are sent in one request; MLflow takes 1,000."""

JournalEvent = Mapping[str, Any]


def event_digest(event: JournalEvent) -> str:
    """The digest of the trial that an event tells of."""
    digest: str = event["outcome"]["digest"] if "outcome" in event else event["digest"]
    return digest


class RunWriter:
    """Writes to the runs of an experiment, found by the digests of trials; what a run has is not written again.

    `known` is what the store holds, and is kept up to date. `tags` go to every run. `find` gives the ids of the runs of
    a trial that the store shows. The file of a trial is DIGEST.png in `pictures`.
    """

    def __init__(
        self,
        server: MlflowExperiment,
        known: Position,
        *,
        tags: Mapping[str, str],
        pictures: Path,
        find: Callable[[str], Sequence[str]],
    ) -> None:
        self._server, self._known, self._tags, self._pictures, self._find = server, known, tags, pictures, find
        self.sender = Sender("MLflow", permanent=PERMANENT_ERRORS, is_reachable=server.is_reachable)
        self._open: set[str] = set()
        self._config, self._asked = "", dict[str, str]()
        self._rows: dict[str, list[MetricPoint]] = {}
        self._unconfirmed: set[str] = set()

    def take(self, event: JournalEvent) -> None:
        """Write what an event tells, rows of epochs perhaps only with the next `flush`; events of others are left."""
        if event["event"] in ("start", "cached", "finish"):
            self._asked[event_digest(event)] = self._config
        match event["event"]:
            case "begin":  # what was under way is not any more, until it begins again
                self._open.clear()
                self._config = event.get("config_digests", [""])[-1]
            case "start" if "trial" in event:
                names = {name: event[name] for name in ("digest", "victim_digest", "data_digest")}
                self._show(decode(Trial, event["trial"]), names, _stamp(event["at"]))
                self._open.add(event["digest"])
            case "epochs" if event["digest"] in self._known.runs:
                self._keep_rows(event)
            case "finish":
                self._finish(event)
            case "measures" if event["digest"] in self._known.runs:
                self.measure(event["digest"], event["metrics"], event["at"])
                self.put_tags(self._known.runs[event["digest"]], event["tags"])

    def _show(self, trial: Trial, names: Mapping[str, str], stamp: int) -> RunState:
        """The run of a trial, created under its victim's or the sweep's, with all that a trial says of itself."""
        runs, parent = self._known.runs, self._known.sweep
        if trial.attack is not None:
            victim = {**names, "digest": names["victim_digest"]}
            parent = runs.get(victim["digest"]) or self._show(Trial(victim=trial.victim), victim, stamp)
        run = runs.get(names["digest"])
        if run is None:
            run = runs[names["digest"]] = RunState(parent=parent.id or self._known.sweep.id)
            run.config = self._tags.get(CONFIG, "")
            self._create(run, trial, names, stamp=stamp)
        elif parent.id not in ("", run.parent):  # it was refused before, or deleted
            run.parent = parent.id if self.put_tags(run, {PARENT: parent.id}) else run.parent
        self.put_params(run, trial_params(trial))
        if not run.inputs:
            data = trial.victim.data, names["data_digest"]
            run.inputs = self._put(run, "data sets", lambda: self._server.log_data_set(run.id, *data))
        return run

    def _create(self, run: RunState, trial: Trial, names: Mapping[str, str], *, stamp: int) -> None:
        digest, asked = names["digest"], False
        told = {DIGEST: digest, "mwm.victim_digest": names["victim_digest"], "mwm.data_digest": names["data_digest"]}
        tags = {**self._tags, **trial_tags(trial), **told, **({PARENT: run.parent} if run.parent else {})}

        def create() -> None:
            nonlocal asked
            if asked:  # the answer to the first request may have been lost, but not the request
                for run.id in self._find(digest):
                    return
                self._unconfirmed.add(digest)
            asked = True
            run.id = self._server.create(trial_name(trial), tags, stamp)

        run.status = "RUNNING" if self.sender.send("runs", create) else ""

    def _keep_rows(self, event: JournalEvent) -> None:
        """Add rows to those of a run that wait, unless those epochs are there already."""
        run, waiting = self._known.runs[event["digest"]], self._rows.setdefault(event["digest"], [])
        for row in event["rows"]:
            run.step = max(run.step, row["epoch"])
            if row["epoch"] > run.epoch:
                run.epoch = row["epoch"]
                waiting += to_metrics(row, _stamp(event["at"]), run.epoch)
        if len(waiting) >= BATCH:
            self._send_rows(event["digest"])

    def _send_rows(self, digest: str) -> None:
        """Send the rows of a run that wait; what is refused goes on waiting."""
        run, waiting = self._known.runs[digest], self._rows.get(digest, [])
        while batch := waiting[:BATCH]:
            if not self._put_metrics(run, batch):
                return
            del waiting[: len(batch)]
        self._rows.pop(digest, None)

    def flush(self) -> None:
        """Send all rows that wait, show as running what has begun again, and tell of which sweep its trials are now."""
        for digest in list(self._rows):
            self._send_rows(digest)
        for digest in self._open:
            self.reopen(self._known.runs[digest])
        for digest, config in self._asked.items():  # what is told of earlier sessions may be told otherwise by now
            run = self._known.runs.get(digest)
            if run is not None and config not in ("", run.config) and self.put_tags(run, {CONFIG: config}):
                run.config = config
        self._asked.clear()

    def reopen(self, run: RunState) -> None:
        """Show a run as running again."""
        if run.status != "RUNNING" and self._put(run, "runs", lambda: self._server.reopen_run(run.id)):
            run.status = "RUNNING"

    def _finish(self, event: JournalEvent) -> None:
        """Write what a trial measured, as metrics at its last epoch, its picture, and how it ended."""
        outcome = Outcome(**event["outcome"])
        digest, ended, name = outcome.digest, ENDED[outcome.status], fingerprint(asdict(outcome))
        if digest not in self._known.runs:
            names = {"digest": digest, "victim_digest": outcome.victim_digest, "data_digest": outcome.data_digest}
            self._show(decode(Trial, event["trial"]), names, _stamp(event["at"]))
        run = self._known.runs[digest]
        same = (run.outcome, run.status) == (name, ended) and not self._rows.get(digest)
        self._open.discard(digest)
        self._send_rows(digest)
        self._rows.pop(digest, None)  # no repetition has mended what waits even now
        if not same:
            told = shown_metrics(asdict(outcome))
            stamp = _stamp(event["at"])
            arrived = self._put_metrics(run, to_metrics(told, stamp, run.step) + step_metrics(outcome, stamp))
            tags = ({"error": ""} if run.had_error else {}) | outcome_tags(outcome)
            self.put_tags(run, tags | ({OUTCOME: name} if arrived else {}))
            run.outcome, run.had_error = name, bool(outcome.error)
        self._put_picture(run, self._pictures / f"{digest}.png")
        if not same:
            self.end(run, ended, event["at"])

    def measure(self, digest: str, metrics: Mapping[str, float], at: float) -> None:
        """Write what became known of a trial later; what rows and outcomes say themselves is left out."""
        run = self._known.runs[digest]
        new = {name: value for name, value in metrics.items() if run.measured.get(name) != value}
        fresh = {name: value for name, value in new.items() if name not in REPORTED_METRICS}
        if fresh and self._put_metrics(run, to_metrics(shown_metrics(fresh), _stamp(at), run.step)):
            run.measured |= fresh

    def end(self, run: RunState, status: Status, at: float) -> None:
        """Show a run as ended at a time (Unix seconds)."""
        if self._put(run, "runs", lambda: self._server.terminate_run(run.id, status, _stamp(at))):
            run.status = status

    def end_all(self, status: Status, at: float) -> None:
        """End the sweep's run as `status`, those of trials that never finished as killed, and take twins back."""
        for run in self._known.runs.values():
            if run.status == "RUNNING":
                self.end(run, "KILLED", at)
        self.end(self._known.sweep, status, at)
        for digest in self._unconfirmed:
            self.sender.send("runs", partial(self._delete_twins, digest))

    def _delete_twins(self, digest: str) -> None:
        """Take back what requests made that were answered too late."""
        own = self._known.runs[digest].id
        for run_id in self._find(digest) if own else ():
            if run_id != own:
                self._server.delete_run(run_id)

    def put_file(self, run: RunState, path: Path) -> bool:
        """Upload a file or a folder, if it is there."""
        return path.exists() and self._put(run, "files", lambda: self._server.log_artifact(run.id, path))

    def _put_picture(self, run: RunState, path: Path) -> None:
        """Upload the picture of a trial, unless its run says that it has it."""
        if path.name not in run.files and self.put_file(run, path):
            run.files.append(path.name)
            self.put_tags(run, {FILES: "/".join(sorted(run.files))})

    def put_params(self, run: RunState, params: Mapping[str, Any]) -> None:
        """Write parameters, unless the run has them."""
        if run.params < len(params) and self._put(run, "parameters", lambda: self._server.log_params(run.id, params)):
            run.params = len(params)

    def put_tags(self, run: RunState, tags: Mapping[str, str]) -> bool:
        """Write tags."""
        return not tags or self._put(run, "tags", lambda: self._server.log_tags(run.id, tags))

    def _put_metrics(self, run: RunState, points: Sequence[MetricPoint]) -> bool:
        return self._put(run, "metrics", lambda: self._server.log_metrics(run.id, points))

    def _put(self, run: RunState, kind: str, write: Callable[[], object]) -> bool:
        """Whether a write to a run arrived; none goes to one that could not be created or was deleted there."""

        def attempt() -> None:
            try:
                write()
            except Exception as error:
                if error_code(error) not in PERMANENT_ERRORS or not self._server.is_deleted(run.id):
                    raise
                self.sender.warn("deleted", f"the run {run.id} was deleted there: nothing more is written to it")
                run.id = ""

        return bool(run.id) and self.sender.send(kind, attempt) and bool(run.id)


def _stamp(at: float) -> int:
    """A time in ms, as MLflow has it."""
    return round(at * 1000)
