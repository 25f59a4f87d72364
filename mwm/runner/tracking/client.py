"""An experiment of MLflow: the requests that are made to it. The only module that tracks with MLflow's client."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mwm.config.spec import encode, flatten
from mwm.storage.addresses import file_uri, sqlite_file
from mwm.storage.redaction import failure_reason, redact
from mwm.storage.tracking_uri import artifact_location, check_database, set_mlflow_defaults, short_timeouts
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]

MetricPoint = tuple[str, float, int, int]
"""A metric's name, value, time stamp (ms) and step."""

PERMANENT_ERRORS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST")
"""Codes of failures that no repetition mends."""

REPORTED_METRICS = frozenset(one.name for record in (EpochMetrics, Outcome) for one in fields(record))
"""What rows and outcomes tell themselves."""

PAGE_SIZE, MAX_PARAM_CHARS, MAX_TAG_CHARS = 1000, 500, 5000
"""Runs in an answer of MLflow, and letters of the value of a parameter and of a tag."""


@dataclass(slots=True)
class RunState:
    """What is known of a run; `id` is empty until it has been created, `asked` tells that it may have been.

    `waiting` are rows with their time stamps that are to be sent, `fresh` tells that some came since the last outcome,
    `truncated` that some were kept back.
    """

    id: str = ""
    status: str = ""
    epoch: int = 0
    outcome: str = ""
    measured: dict[str, float] = field(default_factory=dict)
    described: bool = False
    had_error: bool = False
    asked: bool = False
    waiting: list[tuple[int, EpochMetrics]] = field(default_factory=list)
    due: float = 0.0
    fresh: bool = False
    truncated: bool = False


class MlflowExperiment:
    """The experiment called `name` in the store at `uri`, made if there is none.

    Whatever fails raises as MLflow raises it; a request may take as long as the user's settings of MLflow allow.
    Raises ValueError if the experiment was deleted.
    """

    def __init__(self, uri: str, name: str) -> None:
        self._client = _connect(uri)
        with short_timeouts():
            found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ValueError(f"the experiment {name!r} was deleted there; restore it or choose another name")
        beside = artifact_location(uri, name)
        self.id = found.experiment_id if found else self._client.create_experiment(name, artifact_location=beside)

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

    def create(self, name: str, tags: Mapping[str, str]) -> str:
        """Make a run, shown as running; its id."""
        run = self._client.create_run(self.id, tags=_shortened(tags), run_name=name)
        return str(run.info.run_id)

    def reopen_run(self, run_id: str) -> None:
        """Show a run as running again."""
        self._client.update_run(run_id, status="RUNNING")

    def log_trial(self, run_id: str, trial: Trial, data_digest: str) -> None:
        """Write down what a trial is: its data set and its parameters, which come last."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = trial.victim.data
        source = json.dumps({"tags": {"mlflow.source.name": f"mwm.data.readers.load_dataset({data!r})"}})
        dataset = Dataset(name=data.kind, digest=data_digest, source_type="code", source=source)
        used = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self._client.log_inputs(run_id, datasets=[used])
        params = {key: value for key, value in flatten(encode(trial)).items() if key != "attack"}
        self.log_batch(run_id, params=params)

    def log_batch(
        self,
        run_id: str,
        *,
        points: Sequence[MetricPoint] = (),
        params: Mapping[str, Any] = {},
        tags: Mapping[str, str] = {},
    ) -> None:
        """Write to a run in one request; what is written twice stands there once."""
        from mlflow.entities import Metric, Param, RunTag

        given = [Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in params.items()]
        labels = [RunTag(key, value) for key, value in _shortened(tags).items()]
        self._client.log_batch(run_id, [Metric(*point) for point in points], given, labels)

    def log_artifact(self, run_id: str, path: Path) -> None:
        """Upload a file or a folder."""
        self._client.log_artifact(run_id, str(path))

    def terminate_run(self, run_id: str, status: Status) -> None:
        """Show a run as ended."""
        self._client.set_terminated(run_id, status)

    def delete_run(self, run_id: str) -> None:
        """Hide a run, as MLflow does it: it can be restored."""
        self._client.delete_run(run_id)


def run_state(run: Run) -> RunState:
    """What a run says of itself."""
    tags, metrics = run.data.tags, run.data.metrics
    return RunState(
        id=run.info.run_id,
        status=run.info.status,
        epoch=int(metrics.get("epoch", 0)),
        outcome=tags.get("mwm.outcome", ""),
        measured={key: value for key, value in metrics.items() if key not in REPORTED_METRICS},
        described=bool(run.data.params),
        had_error=bool(tags.get("error")),
    )


def to_metrics(values: Mapping[str, Any], stamp: int, step: int) -> list[MetricPoint]:
    """The numbers among `values` as metrics."""
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return [(key, float(value), stamp, step) for key, value in numbers.items()]


def trial_tags(trial: Trial) -> dict[str, str]:
    """The tags by which a trial is found; `seed` is the victim's."""
    victim, attack = trial.victim, trial.attack
    tags = {"kind": "victim", "scheme": victim.scheme.kind, "seed": str(victim.seed)}
    return tags if attack is None else tags | {"kind": "attack", "attack": attack.kind}


def _shortened(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:MAX_TAG_CHARS] for key, value in tags.items()}


def _connect(uri: str) -> MlflowClient:
    set_mlflow_defaults()
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


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise ValueError, in one line, for the name of a tag that MLflow refuses."""
    from mlflow.utils import validation

    rules: Any = validation
    for name in tags:
        reason = ""
        if not rules.validate_param_and_metric_name(name):
            reason = rules.bad_character_message()
        elif rules.path_not_unique(name):
            reason = "Names may not be paths that lead elsewhere"
        elif len(name) > validation.MAX_ENTITY_KEY_LENGTH:
            reason = f"Names may have {validation.MAX_ENTITY_KEY_LENGTH} characters at most"
        if reason:
            raise ValueError(f"tags: {name!r} is not allowed (--tag, tags): {reason.rstrip('.')}")


def tracking_error(uri: str, error: Exception) -> ValueError:
    """What to raise when a store fails at the start."""
    refused = isinstance(error, ValueError) or getattr(error, "error_code", "") in PERMANENT_ERRORS
    what = "cannot be used" if refused else "cannot be reached"
    return ValueError(f"--tracking-uri: {redact(uri)} {what} ({failure_reason(error)})")
