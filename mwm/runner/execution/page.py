"""What a sweep says on MLflow's page: saved views, a description, and measures that need more than one trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mwm.runner.reporting.results import Row, late_metrics
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.client import MlflowExperiment
from mwm.trials.names import attack_name
from mwm.trials.outcome import Outcome, robustness
from mwm.trials.trial import Trial


@dataclass(frozen=True)
class Measures:
    """What became known of a trial after its end: a `measures` event."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def begin_page(experiment: MlflowExperiment, sweep: Sweep) -> None:
    """Write the views of a sweep before its first trial; raises as MLflow raises."""


def finish_page(experiment: MlflowExperiment, sweep: Sweep, rows: Sequence[Row]) -> None:
    """Write the views, the description and the summary of a sweep from its rows; raises as MLflow raises.

    What a user has changed there is left alone. Written again, nothing changes.
    """


def victim_measures(attacks: Sequence[tuple[Trial, Outcome]]) -> Measures:
    """What all attacks on a victim left, and which left least; nothing if there was none, or one failed."""
    metrics = robustness([outcome for _, outcome in attacks])
    if not metrics:
        return Measures()
    trial, _ = max(attacks, key=_least_left)
    return Measures(metrics, {"worst_attack": attack_name(trial)})


def _least_left(attack: tuple[Trial, Outcome]) -> tuple[float, float]:
    _, outcome = attack
    return outcome.log10_p or 0.0, -(outcome.query_acc or 0.0)


def late_measures(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """What only a sweep's rows together tell of each trial, by digest.

    Beside `clean_drop` and a control's scores on each key, of an attack: `accuracy_drop`, by how many points its
    student is below the victim, and `victim_clean_drop`, what the watermark cost that victim, as a share.
    """
    rows = list(rows)
    victims: dict[str, Row] = {row["digest"]: row for row in rows if row["kind"] == "victim"}
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["digest"], {}).update(late_metrics(row) | _beside_victim(row, victims))
    return {digest: metrics for digest, metrics in found.items() if metrics}


def _beside_victim(row: Row, victims: Mapping[str, Row]) -> dict[str, Any]:
    victim = victims.get(row["victim_digest"])
    if row["kind"] == "victim" or victim is None:
        return {}
    told = {"victim_clean_drop": victim["clean_drop"]} if "clean_drop" in victim else {}
    if victim["clean_acc"] is not None and row["clean_acc"] is not None:
        told["accuracy_drop"] = 100 * (victim["clean_acc"] - row["clean_acc"])
    return told
