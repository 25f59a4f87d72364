"""Trials that are recorded in a real MLflow, and what is found there, for tests of more than one room."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities import Run

from mwm.attacks import Extraction
from mwm.config.spec import encode
from mwm.data.datasets import Digits
from mwm.models.networks import Cnn
from mwm.runner.tracking.follower import Ending, Followed, MlflowFollower
from mwm.runner.tracking.runs import Status
from mwm.runner.workspace.journal import Journal, read_events
from mwm.runner.workspace.location import PICTURES
from mwm.trials.names import trial_name
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial, Victim
from mwm.watermarks.schemes.margin import Margin

VICTIM = Victim(data=Digits(), model=Cnn(), scheme=Margin(num_queries=20, step_size=4 / 255))
MARKED = Trial(victim=VICTIM)
ATTACK = Trial(victim=VICTIM, attack=Extraction(labels="hard").resolve(VICTIM))
NAMES: dict[str, Any] = {"digest": "v0", "victim_digest": "v0", "data_digest": "d0", "device": "cpu"}
NUMBERS: dict[str, Any] = {
    **{
        "start_acc": 0.8125,
        "clean_acc": 0.75,
        "reestimated_clean_acc": 0.875,
        "query_acc": 0.5,
        "wrong_answers": 12,
        "mean_rank": 0.125,
    },
    **{"p_value": 0.0, "log10_p": -9.5, "p_labels": 0.25, "log10_p_scores": -9.75, "proven_1e3": True},
    "peak_mib": 412.5,
}
RANKS: dict[str, Any] = {"label_ranks": "0 9:9", "score_ranks": "0 2", "class_score_ranks": "4 6"}
DONE = Outcome(status="done", **NAMES, **NUMBERS, **RANKS)
ATTACK_DONE = replace(DONE, digest="a0", agreement=0.25, oracle_calls=64)


def _own_folder() -> Path:
    """A folder that is gone when the tests' process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Tracker:
    """A journal in a folder and its follower: trials are told to the one, and found in MLflow by the other.

    Each begins with a journal of its own, unless a `folder` with one is given.
    """

    def __init__(
        self,
        uri: str,
        sweep: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any] = {},
        experiment: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.folder = folder or _own_folder()
        (self.folder / PICTURES).mkdir(exist_ok=True)
        self.journal, self.files = Journal(self.folder, print), list[Path]()
        self.trials: dict[str, Trial] = {}
        followed = Followed(sweep, partial(read_events, self.folder), self.folder, self.folder / PICTURES)
        self.follower = MlflowFollower(uri, followed, tags=tags, params=params, experiment=experiment)
        self.journal.begin()

    def start(self, trial: Trial, *, digest: str, victim_digest: str, data_digest: str) -> None:
        """Tell that a trial begins; at once, and not only when the journal is looked into again."""
        self.trials[digest] = trial
        kind = "victim" if trial.attack is None else "attack"
        names = {"victim_digest": victim_digest, "data_digest": data_digest}
        self.journal.start(digest, kind, trial_name(trial), trial=encode(trial), **names)
        self.follower._wake.set()

    def log(self, digest: str, row: EpochMetrics) -> None:
        self.journal.epochs(digest, [asdict(row)])

    def finish(self, digest: str, outcome: Outcome, *, artifacts: Sequence[Path] = ()) -> None:
        for path in artifacts:
            shutil.copy(path, self.folder / PICTURES / f"{digest}.png")
        self.journal.finish(encode(self.trials[digest]), asdict(outcome), trial_name(self.trials[digest]))

    def log_late_metrics(self, digest: str, metrics: Mapping[str, float]) -> None:
        self.journal.measures(digest, metrics)

    def artifact(self, path: Path) -> None:
        self.files.append(path)

    def run_id(self, digest: str) -> str:
        return self.follower.run_id(digest)

    def flush(self, seconds: float) -> int:
        """Wait until the journal was brought; how many events were not."""
        return flushed(self.follower, seconds)

    def close(self, status: Status) -> int:
        return self.follower.close(status, lambda: Ending(files=self.files))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.follower.__exit__(kind, error, at)


def flushed(follower: MlflowFollower, seconds: float) -> int:
    """Wait until a follower has brought its journal, `seconds` at most; how many events it did not."""
    end = time.monotonic() + seconds
    while (left := follower.left()) and time.monotonic() < end:
        follower._wake.set()
        time.sleep(0.01)
    return left


def track(uri: str, sweep: str = "trial", folder: Path | None = None) -> Tracker:
    tags, params = {"git.revision": "abc"}, {"search": "grid", "long": "x" * 9000}
    return Tracker(uri, sweep, tags=tags, params=params, folder=folder)


def begin(tracker: Tracker, *, attack: bool = True) -> None:
    tracker.start(MARKED, digest="v0", victim_digest="v0", data_digest="d0")
    if attack:
        tracker.start(ATTACK, digest="a0", victim_digest="v0", data_digest="d0")


def sent(tracker: Tracker) -> None:
    assert tracker.flush(60) == 0


def row(epoch: int) -> EpochMetrics:
    return EpochMetrics(epoch=epoch, loss=1 / epoch, lr=0.1, val_acc=0.5, query_acc=0.25, epoch_seconds=0.125)


def runs(uri: str, sweep: str = "trial") -> dict[str, Run]:
    """Every run of a sweep by its digest, the sweep's own under "sweep"; fails if a digest has two runs."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    found = list(client.search_runs([experiment.experiment_id]))
    named = {run.data.tags.get("mwm.digest", run.data.tags["kind"]): run for run in found}
    assert len(named) == len(found), "a run has a twin"
    return named


def history(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, metric)]


def epochs(uri: str, sweep: str = "trial") -> list[int]:
    return [step for step, _ in history(uri, runs(uri, sweep)["v0"], "loss")]
