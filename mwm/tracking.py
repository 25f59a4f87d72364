"""Rows to MLflow: a run per trial, nested sweep -> victim -> attack, written by the driver alone."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mwm.address import be_quiet, files_beside, patience, resolve, touch, without_password
from mwm.outbox import Outbox, one_line
from mwm.progress import label
from mwm.spec import digest as fingerprint
from mwm.spec import encode, flatten
from mwm.trial import Outcome, Row, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

__all__ = ["Tracker", "resolve"]

Status = Literal["FINISHED", "FAILED", "KILLED"]
ENDED: dict[str, Status] = {"done": "FINISHED", "failed": "FAILED", "skipped": "KILLED"}

HOPELESS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST")

SEND_SECONDS, DRAIN_SECONDS, CLOSE_SECONDS = 2.0, 1.0, 60.0
BATCH, PAGE, LONGEST_VALUE, LONGEST_TAG = 500, 200, 500, 5000


@dataclass
class _Run:
    """What is known of one MLflow run; `id` is empty until it has been created, `asked` tells that it may have been."""

    id: str = ""
    status: str = ""
    epoch: int = 0
    outcome: str = ""
    measured: dict[str, float] = field(default_factory=dict)
    described: bool = False
    had_error: bool = False
    asked: bool = False
    waiting: list[Metric] = field(default_factory=list)
    due: float = 0.0


class Tracker:
    """The one writer of a sweep: an MLflow experiment named `sweep`, a run for it, and nested runs for its trials.

    What the store holds already is found by the digests of trials and continued. Writes are sent in order and within
    bounds of time; what fails is kept and sent later. `tags` go to every run, `params` to the sweep's.
    Raises ValueError if the store cannot be reached; after that no failure of MLflow reaches the caller.
    """

    def __init__(self, uri: str, sweep: str, *, tags: Mapping[str, str], params: Mapping[str, Any] = {}) -> None:
        self._tags = dict(tags)
        self._runs: dict[str, _Run] = {}
        self._sweep = _Run()
        self._stamp = 0
        self._closed = False
        self._outbox = Outbox("MLflow", hopeless=HOPELESS, present=self._present)
        try:
            self._client = _connect(uri)
            self._experiment = _experiment(self._client, uri, sweep)
            self._recall()
            self._open(sweep, params)
        except Exception as error:
            raise ValueError(f"--tracking-uri: {without_password(uri)} cannot be reached ({one_line(error)})") from None

    def _recall(self) -> None:
        """Learn all runs of the experiment in one search, page by page."""
        page: str | None = ""
        while page is not None:
            runs = self._client.search_runs(
                [self._experiment], max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=page or None
            )
            for run in runs:
                if run.data.tags.get("kind") == "sweep":
                    mine = run.data.tags.get("mwm.config_digest") == self._tags.get("mwm.config_digest")
                    self._sweep = _known(run) if mine else self._sweep
                elif "mwm.digest" in run.data.tags:
                    self._runs[run.data.tags["mwm.digest"]] = _known(run)
            page = runs.token or None

    def _open(self, sweep: str, params: Mapping[str, Any]) -> None:
        tags = self._tags | {"kind": "sweep"}
        if not self._sweep.id:
            self._sweep.id = self._client.create_run(self._experiment, tags=tags, run_name=sweep).info.run_id
        self._client.update_run(self._sweep.id, status="RUNNING")
        _write(self._client, self._sweep.id, tags=tags, params={} if self._sweep.described else params)

    def _present(self) -> bool:
        try:
            with patience():
                self._client.get_experiment(self._experiment)
        except Exception:
            return False
        return True

    def start(self, trial: Trial, *, digest: str, victim_digest: str, data_digest: str) -> None:
        """Show a trial as running: its run is found by its digest, or created under its victim's or the sweep's.

        The tag `seed` is the victim's. A run that finished in an earlier session is left as it is.
        """
        parent = self._sweep
        if trial.attack is not None:
            assert victim_digest in self._runs, f"attack {digest} before its victim {victim_digest}"
            parent = self._runs[victim_digest]
        run = self._runs.setdefault(digest, _Run())
        settled = run.outcome if run.status == "FINISHED" else run.status == "RUNNING" and run.described
        if self._closed or settled:
            return
        names = {"mwm.digest": digest, "mwm.victim_digest": victim_digest, "mwm.data_digest": data_digest}
        tags = self._tags | _labels(trial) | names
        if run.id:
            self._put(run, lambda: self._client.update_run(run.id, status="RUNNING"))
        else:
            self._outbox.put(lambda: self._create(run, parent, label(trial, victim=False), tags))
        if not run.described:
            data = _dataset(trial, data_digest)
            params = {key: value for key, value in flatten(encode(trial)).items() if key != "attack"}
            self._put(run, lambda: self._client.log_inputs(run.id, datasets=[data]))
            self._put(run, lambda: _write(self._client, run.id, params=params))
        run.status, run.described = "RUNNING", True
        self._outbox.drain(DRAIN_SECONDS)

    def _create(self, run: _Run, parent: _Run, name: str, tags: Mapping[str, str]) -> None:
        if run.asked:  # the answer to the first request may have been lost, but not the request
            same = f"tags.`mwm.digest` = '{tags['mwm.digest']}'"
            for found in self._client.search_runs([self._experiment], same, max_results=1):
                run.id = found.info.run_id
                return
        run.asked, tags = True, {**tags, "mlflow.parentRunId": parent.id or self._sweep.id}
        run.id = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id

    def log(self, digest: str, row: Row) -> None:
        """Log the fields of a row as metrics at the step of its epoch, unless that epoch is there already."""
        run = self._runs[digest]
        if self._closed or row.epoch <= run.epoch:
            return
        run.epoch = row.epoch
        run.waiting += self._metrics(asdict(row), row.epoch)
        if len(run.waiting) >= BATCH or time.monotonic() >= run.due:
            self._flush(run)
            self._outbox.drain(DRAIN_SECONDS)

    def finish(self, digest: str, outcome: Outcome, *, artifacts: Sequence[Path] = ()) -> None:
        """Log what a trial measured, as metrics at its last epoch, upload `artifacts` and end its run.

        A run that has ended with the very same outcome is not written to.
        """
        run, content = self._runs[digest], asdict(outcome)
        name, ended = fingerprint(content), ENDED[outcome.status]
        if self._closed or (run.outcome == name and run.status == ended):
            return
        self._flush(run)
        said = {"device": outcome.device, "mwm.query_digest": outcome.query_digest, "error": outcome.error}
        tags = {key: value for key, value in said.items() if value or (key == "error" and run.had_error)}
        tags |= {"status": outcome.status, "mwm.outcome": name}
        metrics = self._metrics(content, run.epoch)
        self._put(run, lambda: _write(self._client, run.id, metrics=metrics, tags=tags))
        for path in artifacts:
            self._upload(run, path)
        self._end(run, ended)
        run.outcome, run.had_error = name, bool(outcome.error)
        self._outbox.drain(DRAIN_SECONDS)

    def measure(self, digest: str, metrics: Mapping[str, float]) -> None:
        """Log what became known of a trial later, such as a victim's robustness; also after `finish`."""
        run = self._runs[digest]
        fresh = {key: value for key, value in metrics.items() if run.measured.get(key) != value}
        if self._closed or not fresh:
            return
        run.measured |= fresh
        batch = self._metrics(fresh, run.epoch)
        self._put(run, lambda: _write(self._client, run.id, metrics=batch))
        self._outbox.drain(DRAIN_SECONDS)

    def run_id(self, digest: str) -> str:
        """The MLflow run of a trial; empty if there is none, or none yet."""
        return self._runs[digest].id if digest in self._runs else ""

    def artifact(self, path: Path) -> None:
        """Upload a file or a folder to the sweep's run."""
        if not self._closed:
            self._upload(self._sweep, path)
            self._outbox.drain(DRAIN_SECONDS)

    def close(self, status: Status) -> None:
        """Send what is left and end all runs: the sweep's as `status`, trials that never finished as killed."""
        if self._closed:
            return
        for run in self._runs.values():
            self._flush(run)
            if run.status == "RUNNING":
                self._end(run, "KILLED")
        self._end(self._sweep, status)
        self._outbox.drain(CLOSE_SECONDS, impatient=True)
        if self._outbox and self._present():
            self._outbox.drain(CLOSE_SECONDS, impatient=True)
        self._closed = True
        if left := len(self._outbox):
            self._outbox.warn("unsent", f"{left} writes were not sent; some runs may still show as running")

    def _metrics(self, values: Mapping[str, Any], step: int) -> list[Metric]:
        """Numbers as metrics. Time stamps never repeat: of two values at one step MLflow shows the later one."""
        from mlflow.entities import Metric

        self._stamp = stamp = max(time.time_ns() // 10**6, self._stamp + 1)
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        return [Metric(key, float(value), stamp, step) for key, value in numbers.items()]

    def _flush(self, run: _Run) -> None:
        if run.waiting:
            batch, run.waiting = run.waiting, []
            run.due = time.monotonic() + SEND_SECONDS
            self._put(run, lambda: _write(self._client, run.id, metrics=batch), spare=True)

    def _upload(self, run: _Run, path: Path) -> None:
        if path.exists():
            self._put(run, lambda: self._client.log_artifact(run.id, str(path)))
        else:
            self._outbox.warn("file", f"{path} is not there and was not uploaded")

    def _end(self, run: _Run, status: Status) -> None:
        run.status = status
        self._put(run, lambda: self._client.set_terminated(run.id, status))

    def _put(self, run: _Run, send: Callable[[], object], *, spare: bool = False) -> None:
        """Queue a write to a run; nothing is sent to one that could not be created."""
        self._outbox.put(lambda: send() if run.id else None, spare=spare)


def _connect(uri: str) -> MlflowClient:
    be_quiet()
    touch(uri)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    with patience():
        found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=files_beside(uri, name))
    if found.lifecycle_stage == "deleted":
        raise ValueError(f"experiment {name!r} was deleted there; restore it or choose another name")
    return found.experiment_id


def _known(run: Run) -> _Run:
    tags, metrics = run.data.tags, run.data.metrics
    return _Run(
        id=run.info.run_id,
        status=run.info.status,
        epoch=int(metrics.get("epoch", 0)),
        outcome=tags.get("mwm.outcome", ""),
        measured=dict(metrics),
        described=bool(run.data.params),
        had_error=bool(tags.get("error")),
    )


def _write(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, Any] = {},
    tags: Mapping[str, str] = {},
) -> None:
    from mlflow.entities import Param, RunTag

    given = [Param(key, str(value)[:LONGEST_VALUE]) for key, value in params.items()]
    labels = [RunTag(key, value[:LONGEST_TAG]) for key, value in tags.items()]
    client.log_batch(run_id, metrics, given, labels)


def _labels(trial: Trial) -> dict[str, str]:
    victim, attack = trial.victim, trial.attack
    tags = {"kind": "victim", "scheme": victim.scheme.kind, "seed": str(victim.seed)}
    return tags if attack is None else tags | {"kind": "attack", "attack": attack.kind}


def _dataset(trial: Trial, digest: str) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = trial.victim.data
    source = json.dumps({"tags": {"mlflow.source.name": f"mwm.data.load({data!r})"}})
    dataset = Dataset(name=data.kind, digest=digest, source_type="code", source=source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
