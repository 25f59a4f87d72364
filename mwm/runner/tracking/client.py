"""An experiment of MLflow: the requests that are made to it. The only module that tracks with MLflow's client."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mwm.data.datasets import DatasetSpec
from mwm.runner.tracking.artifacts import ArtifactSender
from mwm.runner.tracking.faults import PERMANENT_ERRORS, error_code, reason
from mwm.runner.tracking.runs import MetricPoint, Status
from mwm.storage.addresses import file_uri, sqlite_file
from mwm.storage.tracking_uri import (
    artifact_location,
    avoid_proxies,
    check_database,
    set_mlflow_defaults,
    short_timeouts,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

Answer = TypeVar("Answer")

PAGE_SIZE = 1000
"""Runs in an answer of MLflow."""

MAX_PARAM_CHARS, MAX_TAG_CHARS, OLD_MAX_CHARS = 500, 5000, 250
"""Letters of the value of a parameter, of a tag, and of both on old servers."""


class MlflowExperiment:
    """The experiment called `name` in the store at `uri`, made if there is none.

    Whatever fails raises as MLflow raises it; a request may take as long as the user's settings of MLflow allow.
    Raises ValueError if the experiment was deleted.
    """

    def __init__(self, uri: str, name: str) -> None:
        self._client, self.name = connect(uri), name
        with short_timeouts():
            found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ValueError(
                f"the experiment {name!r} was deleted there; restore it or choose another name (--experiment)"
            )
        self.id = found.experiment_id if found else self._create_experiment(uri, name)
        made = found or self._client.get_experiment(self.id)
        self._files = ArtifactSender(self._client, uri, made, new=found is None)

    def _create_experiment(self, uri: str, name: str) -> str:
        try:
            return str(self._client.create_experiment(name, artifact_location=artifact_location(uri, name)))
        except Exception as error:
            if error_code(error) in PERMANENT_ERRORS:
                refused = f"the experiment {name!r} is refused there: {reason(error)}"
                raise ValueError(f"{refused}; name another by --experiment") from None
            raise

    def is_reachable(self) -> bool:
        """Whether the store answers."""
        try:
            self._client.get_experiment(self.id)
        except Exception:
            return False
        return True

    def runs(self, condition: str = "") -> Iterator[Run]:
        """The runs that meet a condition, the oldest first."""
        page: str | None = ""
        while page is not None:
            found = self._client.search_runs(
                [self.id],
                condition,
                max_results=PAGE_SIZE,
                order_by=["attributes.start_time ASC"],
                page_token=page or None,
            )
            yield from found
            page = found.token or None

    def tags(self) -> dict[str, str]:
        """The tags of the experiment itself."""
        return dict(self._client.get_experiment(self.id).tags)

    def log_experiment_tags(self, tags: Mapping[str, str]) -> None:
        """Write tags to the experiment itself."""
        for name, text in tags.items():
            self._client.set_experiment_tag(self.id, name, text)

    def create(self, name: str, tags: Mapping[str, str], began: int | None = None) -> str:
        """Make a run, shown as running since `began` (ms), or now; its id."""

        def send(texts: Mapping[str, str]) -> str:
            run = self._client.create_run(self.id, start_time=began, tags=dict(texts), run_name=name)
            return str(run.info.run_id)

        return _send_short(send, tags, MAX_TAG_CHARS)

    def reopen_run(self, run_id: str) -> None:
        """Show a run as running again."""
        self._client.update_run(run_id, status="RUNNING")

    def is_deleted(self, run_id: str) -> bool:
        """Whether somebody has deleted a run."""
        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "deleted")
        except Exception as error:
            return error_code(error) == "RESOURCE_DOES_NOT_EXIST"

    def log_data_set(self, run_id: str, data: DatasetSpec, data_digest: str) -> None:
        """Write down which data set a run uses."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": {"mlflow.source.name": f"mwm.data.readers.load_dataset({data!r})"}})
        dataset = Dataset(name=data.kind, digest=data_digest, source_type="code", source=source)
        used = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self._client.log_inputs(run_id, datasets=[used])

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Write metrics to a run; what is written twice stands there once."""
        from mlflow.entities import Metric

        self._client.log_batch(run_id, metrics=[Metric(*point) for point in points])

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Write parameters to a run; again, that changes nothing."""
        from mlflow.entities import Param

        def send(texts: Mapping[str, str]) -> None:
            self._client.log_batch(run_id, params=[Param(*text) for text in texts.items()])

        _send_short(send, {key: str(value) for key, value in params.items()}, MAX_PARAM_CHARS)

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags to a run."""
        from mlflow.entities import RunTag

        def send(texts: Mapping[str, str]) -> None:
            self._client.log_batch(run_id, tags=[RunTag(*text) for text in texts.items()])

        _send_short(send, tags, MAX_TAG_CHARS)

    def log_artifact(self, run_id: str, path: Path) -> None:
        """Upload a file or a folder."""
        self._files.send(run_id, path)

    def terminate_run(self, run_id: str, status: Status, ended: int | None = None) -> None:
        """Show a run as ended, at `ended` (ms) or now."""
        self._client.set_terminated(run_id, status, ended)

    def delete_run(self, run_id: str) -> None:
        """Hide a run, as MLflow does it: it can be restored."""
        self._client.delete_run(run_id)


def _send_short(send: Callable[[Mapping[str, str]], Answer], texts: Mapping[str, str], limit: int) -> Answer:
    """Send texts of `limit` letters at most each; where that is refused, of as many as old servers take."""
    try:
        return send({key: text[:limit] for key, text in texts.items()})
    except Exception as error:
        longest = max(map(len, texts.values()), default=0)
        if error_code(error) not in PERMANENT_ERRORS or longest <= OLD_MAX_CHARS:
            raise
    return send({key: text[:OLD_MAX_CHARS] for key, text in texts.items()})


def connect(uri: str) -> MlflowClient:
    """MLflow's client of a store, quiet and quick to give up; a SQLite database that is not there is made."""
    set_mlflow_defaults()
    avoid_proxies(uri)
    database = sqlite_file(uri)
    new = database is not None and not database.exists()
    check_database(uri)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if database is not None and new:
        # MLflow itself would take the name of the current folder for SQL, in which a quote or a colon means something.
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(uri, file_uri(database.parent / "mlruns"))  # type: ignore[no-untyped-call]
    return MlflowClient(tracking_uri=uri)


def open_store(uri: str) -> MlflowClient:
    """A client of a store that is there already; raises ValueError, in one line, for a database that is not."""
    if (database := sqlite_file(uri)) is not None and not database.exists():
        raise ValueError(f"there is no {database}")
    return connect(uri)


def experiments(client: MlflowClient, name: str | None) -> Iterator[Experiment]:
    """All experiments of a store, or the one of a name, if there is one."""
    if name is not None:
        found = client.get_experiment_by_name(name)
        yield from [found] if found else []
        return
    page: str | None = ""
    while page is not None:
        answer = client.search_experiments(page_token=page or None)
        yield from answer
        page = answer.token or None
