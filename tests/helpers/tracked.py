"""Trials that are recorded in a real MLflow, and what is found there, for tests of more than one room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from mwm.attacks import Extraction
from mwm.data.datasets import Digits
from mwm.models.networks import Cnn
from mwm.runner.tracking.tracker import Tracker
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial, Victim
from mwm.watermarks.schemes.margin import Margin

VICTIM = Victim(data=Digits(), model=Cnn(), scheme=Margin(num_queries=20, step_size=4 / 255))
MARKED = Trial(victim=VICTIM)
ATTACK = Trial(victim=VICTIM, attack=Extraction(labels="hard").resolve(VICTIM))
NAMES: dict[str, Any] = {"digest": "v0", "victim_digest": "v0", "data_digest": "d0", "device": "cpu"}
NUMBERS: dict[str, Any] = {
    **{"clean_acc": 0.75, "reestimated_clean_acc": 0.875, "query_acc": 0.5, "wrong_answers": 12, "mean_rank": 0.125},
    **{"p_value": 0.0, "log10_p": -9.5, "p_labels": 0.25, "log10_p_scores": -9.75, "proven_1e3": True},
    "peak_mib": 412.5,
}
RANKS: dict[str, Any] = {"label_ranks": "0 9:9", "score_ranks": "0 2", "class_score_ranks": "4 6"}
DONE = Outcome(status="done", **NAMES, **NUMBERS, **RANKS)
ATTACK_DONE = replace(DONE, digest="a0", agreement=0.25, oracle_calls=64)


def track(uri: str, sweep: str = "trial") -> Tracker:
    return Tracker(uri, sweep, tags={"git.revision": "abc"}, params={"search": "grid", "long": "x" * 9000})


def begin(tracker: Tracker, *, attack: bool = True, outcome: Outcome | None = None) -> None:
    tracker.start(MARKED, digest="v0", victim_digest="v0", data_digest="d0", outcome=outcome)
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
