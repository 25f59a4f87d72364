"""What is known of a run of MLflow, and what a trial says there: tags, parameters, metrics."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from mwm.attacks.base import AttackRecord
from mwm.config.spec import encode, flatten
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial

if TYPE_CHECKING:
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]

MetricPoint = tuple[str, float, int, int]
"""A metric's name, value, time stamp (ms) and step."""

REPORTED_METRICS = frozenset(one.name for record in (EpochMetrics, Outcome) for one in fields(record))
"""What rows and outcomes tell themselves."""

THREAT = "threat."
"""How tags of a threat model begin."""

SWEEP, CONFIG, DIGEST, PARENT = "mwm.sweep", "mwm.config_digest", "mwm.digest", "mlflow.parentRunId"
"""Tags that say what a run is of: its sweep, by name and by digest, its trial, and the run above it."""

OUTCOME, FILES = "mwm.outcome", "mwm.files"
"""Tags that say what has arrived: the digest of an outcome with all that is said of it, and the names of files."""


@dataclass(slots=True)
class RunState:
    """What is known of a run; `id` is empty if it could not be created, or was deleted.

    `parent` is the id of the run above it, `epoch` the last one that stands there, `step` the last one of which the
    journal has told so far, `outcome` the digest of the outcome that stands there with all that is said of it,
    `measured` what became known later, `params` how many parameters it has, `inputs` whether it has a data set, `files`
    the names of its files. `config` is the digest of the sweep that last had it, which grows.
    """

    id: str = ""
    status: str = ""
    parent: str = ""
    epoch: int = 0
    step: int = 0
    outcome: str = ""
    measured: dict[str, float] = field(default_factory=dict)
    params: int = 0
    inputs: bool = False
    files: list[str] = field(default_factory=list)
    had_error: bool = False
    config: str = ""


def run_state(run: Run) -> RunState:
    """What a run says of itself: what it does not show has not arrived, whatever was sent."""
    tags, metrics = run.data.tags, run.data.metrics
    return RunState(
        id=run.info.run_id,
        status=run.info.status,
        parent=tags.get(PARENT, ""),
        epoch=int(metrics.get("epoch", 0)),
        outcome=tags.get(OUTCOME, ""),
        measured={key: value for key, value in metrics.items() if key not in REPORTED_METRICS},
        params=len(run.data.params),
        inputs=bool(run.inputs and run.inputs.dataset_inputs),
        files=[name for name in tags.get(FILES, "").split("/") if name],
        had_error=bool(tags.get("error")),
        config=tags.get(CONFIG, ""),
    )


NEGATED = {"log10_p": "neg_log10_p", "worst_log10_p": "worst_neg_log10_p"}
"""Metrics that MLflow is told with the other sign, too: its page sorts and draws what is large as good."""


def shown_metrics(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, and beside each log10 p also -log10 p, to a hundredth: a column has room for no more."""
    negated = {new: 0.0 - round(values[name], 2) for name, new in NEGATED.items() if values.get(name) is not None}
    return {**values, **negated}


def outcome_tags(outcome: Outcome) -> dict[str, str]:
    """What is said of an outcome: how it ended, why, where, and whether the watermark is proven in words.

    `mwm.marked` is said of a victim with a scheme alone: whether its own key is proven on it.
    """
    said = {"device": outcome.device, "mwm.query_digest": outcome.query_digest, "error": outcome.error}
    if outcome.proven_1e3 is not None:
        said["decision"] = "proven" if outcome.proven_1e3 else "not proven"
    if outcome.marked is not None:
        said["mwm.marked"] = str(outcome.marked).lower()
    return {name: text for name, text in said.items() if text} | {"status": outcome.status}


def source_tags(provenance: Mapping[str, str]) -> dict[str, str]:
    """MLflow's own tags for who made a run, by which command and from which commit: its page shows them."""
    tags = {
        "mlflow.source.name": "launch.py",
        "mlflow.source.type": "JOB" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else "LOCAL",
    }
    if (revision := provenance.get("git.revision", "unknown")) != "unknown":
        tags["mlflow.source.git.commit"] = revision
    with suppress(KeyError, OSError):  # a container may run as a number that has no name
        tags["mlflow.user"] = getpass.getuser()
    return tags


def to_metrics(values: Mapping[str, Any], stamp: int, step: int) -> list[MetricPoint]:
    """The numbers among `values` as metrics."""
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return [(key, float(value), stamp, step) for key, value in numbers.items()]


def trial_tags(trial: Trial) -> dict[str, str]:
    """The tags by which a trial is found; `seed` is the victim's. Of an attack also its threat model."""
    victim, attack = trial.victim, trial.attack
    tags = {"kind": "victim", "scheme": victim.scheme.kind, "seed": str(victim.seed)}
    return tags if attack is None else tags | {"kind": "attack", "attack": attack.kind} | threat_tags(attack)


def threat_tags(attack: AttackRecord) -> dict[str, str]:
    """What an attacker is given, as tags: `threat.access`, ...; nothing is said of what is not used."""
    told = asdict(attack.threat_model())
    words = {name: str(value).lower() if isinstance(value, bool) else value for name, value in told.items()}
    return {f"{THREAT}{name}": word for name, word in words.items() if word}


def step_metrics(outcome: Outcome, stamp: int) -> list[MetricPoint]:
    """What each step of a sequence left, as metrics at its last epoch: `step.clean_acc`, `step.query_acc`, ..."""
    found: list[MetricPoint] = []
    for step in outcome.steps:
        told = {f"step.{name}": value for name, value in step.items() if name != "epoch"}
        found += to_metrics(told, stamp, step["epoch"])
    return found


def trial_params(trial: Trial) -> dict[str, Any]:
    """The parameters of a trial: every field of its record."""
    return {key: value for key, value in flatten(encode(trial)).items() if key != "attack"}
