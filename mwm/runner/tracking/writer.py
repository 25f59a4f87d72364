"""What is written to a run of MLflow, kind by kind: what is refused of one holds no other up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mwm.data.datasets import DatasetSpec
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.faults import PERMANENT_ERRORS, error_code
from mwm.runner.tracking.outbox import Outbox
from mwm.runner.tracking.runs import FILES, OUTCOME, PARENT, RunState, Status, outcome_tags, shown_metrics, to_metrics
from mwm.trials.outcome import EpochMetrics, Outcome

SEND_SECONDS = 5.0
"""Rows of a run are sent at most this often."""

BATCH, BACKLOG = 100, 100_000
"""Rows that are sent in one request, and that may wait at all."""


class RunWriter:
    """Queues writes to the runs of an experiment; none goes to a run that could not be created or was deleted there."""

    def __init__(self, server: MlflowExperiment) -> None:
        self._server = server
        self.outbox = Outbox("MLflow", permanent=PERMANENT_ERRORS, is_reachable=server.is_reachable)
        self._stamp = self._logged = self._sent = 0

    def put(self, run: RunState, kind: str, send: Callable[[], object], *, droppable: bool = False) -> None:
        """Queue a write to a run."""

        def attempt() -> None:
            try:
                if run.id:
                    send()
            except Exception as error:
                if error_code(error) not in PERMANENT_ERRORS or not self._server.is_deleted(run.id):
                    raise
                self.outbox.warn("deleted", f"the run {run.id} was deleted there: nothing more is written to it")

        self.outbox.put(attempt, kind, droppable=droppable)

    def put_tags(self, run: RunState, tags: Mapping[str, str]) -> None:
        """Queue tags."""
        self.put(run, "tags", lambda: self._server.log_tags(run.id, tags))

    def put_params(self, run: RunState, params: Mapping[str, Any]) -> None:
        """Queue parameters, unless the run has them."""
        if run.params < len(params):
            run.params = len(params)
            self.put(run, "parameters", lambda: self._server.log_params(run.id, params))

    def put_data_set(self, run: RunState, data: DatasetSpec, digest: str) -> None:
        """Queue which data set a run uses, unless it has one."""
        if not run.inputs:
            run.inputs = True
            self.put(run, "data sets", lambda: self._server.log_data_set(run.id, data, digest))

    def put_parent(self, run: RunState, parent: RunState) -> None:
        """Hang a run that is there under another one, which was refused before, or deleted."""

        def send() -> None:
            if parent.id:
                self._server.log_tags(run.id, {PARENT: parent.id})
                run.parent = parent.id

        if run.id and run.parent != parent.id:
            self.put(run, "tags", send)

    def keep_row(self, run: RunState, row: EpochMetrics) -> bool:
        """Add a row to those of a run that wait; False if so many wait that it was kept back."""
        if run.truncated or self._logged - self._sent >= BACKLOG:
            run.truncated = True  # from here on: what is missing is a run's end, which another session can add
            return False
        run.waiting.append((self.now(), row))
        self._logged += 1
        if time.monotonic() >= run.due:
            self.put_rows(run, droppable=True)
        return True

    def put_rows(self, run: RunState, *, droppable: bool = False) -> None:
        """Queue the rows that wait."""
        if run.waiting:
            run.due = time.monotonic() + SEND_SECONDS
            self.put(run, "metrics", partial(self._send_rows, run), droppable=droppable)

    def _send_rows(self, run: RunState) -> None:
        """Send all rows that wait by now; what fails goes on waiting."""
        while batch := run.waiting[:BATCH]:
            points = [one for stamp, row in batch for one in to_metrics(asdict(row), stamp, row.epoch)]
            self._server.log_metrics(run.id, points)
            self._forget(run, len(batch))

    def _forget(self, run: RunState, rows: int) -> None:
        del run.waiting[:rows]
        self._sent += rows

    def put_metrics(self, run: RunState, values: Mapping[str, Any], arrived: Callable[[], object] = list) -> None:
        """Queue numbers at the last epoch of a run; `arrived` is called when they are there."""
        points = to_metrics(shown_metrics(values), self.now(), run.epoch)

        def send() -> None:
            self._server.log_metrics(run.id, points)
            arrived()

        self.put(run, "metrics", send)

    def put_outcome(self, run: RunState, outcome: Outcome, name: str) -> None:
        """Queue the numbers of an outcome and what is said of it; its digest, `name`, only if the numbers arrived."""
        tags = ({"error": ""} if run.had_error else {}) | outcome_tags(outcome)
        self.put_metrics(run, asdict(outcome), lambda: tags.update({OUTCOME: name}))
        self.put_tags(run, tags)

    def put_file(self, run: RunState, path: Path, *, listed: bool) -> None:
        """Queue a file or a folder; a run that is `listed` then says by a tag that it has it."""

        def send() -> None:
            self._server.log_artifact(run.id, path)
            run.files |= {path.name}
            if listed:
                self.put_tags(run, {FILES: "/".join(sorted(run.files))})

        if path.exists():
            self.put(run, "files", send)
        else:
            self.outbox.warn("file", f"{path} is not there and was not uploaded")

    def put_end(self, run: RunState, status: Status) -> None:
        """Queue the end of a run; rows that wait even then are given up: no repetition has mended them."""
        run.status, stamp = status, self.now()
        self.outbox.put(lambda: self._forget(run, sum(then < stamp for then, _ in run.waiting)))
        self.put(run, "runs", lambda: self._server.terminate_run(run.id, status))

    def now(self) -> int:
        """A time stamp in ms. None repeats: of two values at one step MLflow shows the later one."""
        self._stamp = max(time.time_ns() // 10**6, self._stamp + 1)
        return self._stamp
