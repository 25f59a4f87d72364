"""Results of a sweep as rows: one per trial, all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mwm.config.spec import digest, encode
from mwm.trials.outcome import LEVELS, Outcome, decisions, robustness
from mwm.trials.trial import Trial

SCHEME = ("num_queries", "step_size", "steps", "weight", "queries_per_step", "batchnorm")
MEASURED = (
    "query_acc",
    "query_low",
    "query_high",
    "query_matches",
    "margin_mean",
    "margin_min",
    "agreement",
    "p_value",
    "log10_p",
    *LEVELS,
)
ROBUSTNESS = ("worst_query_acc", "mean_query_acc", "worst_log10_p")
COLUMNS = (
    *("sweep", "kind", "scheme", "model", *SCHEME, "victim_seed"),
    *("attack", "labels", "source", "student", "budget", "attack_seed"),
    *("clean_acc", "clean_drop", *MEASURED, *ROBUSTNESS),
    *("oracle_calls", "seconds", "peak_mib", "checkpoint", "kept_epoch", "device", "status", "error"),
    *("digest", "victim_digest", "data_digest", "query_digest", "mlflow_run_id", "trial"),
)
"""The columns of results.csv, in order. `query_low` and `query_high`: 95 % interval of the query accuracy (Clopper
and Pearson, 1934), `checkpoint` says which weights of the victim were attacked, `trial` is all of the trial as JSON."""


@dataclass(frozen=True)
class TrialResult:
    """One finished, failed or skipped trial of a sweep; the trial is complete, with student and recipe filled in."""

    trial: Trial
    outcome: Outcome
    run_id: str = ""


def result_rows(sweep: str, results: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """One row per result under `COLUMNS`: each victim followed by its attacks, attacks without their victim last.

    `clean_drop` is the clean accuracy lost against the same trial without a watermark; None where there is no such
    trial. Fields that a trial does not have are None.
    """
    controls = {
        unwatermarked_twin(result.trial): result.outcome.clean_acc
        for result in reversed(results)
        if result.trial.victim.scheme.kind == "none" and result.outcome.clean_acc is not None
    }
    table = []
    for result, attacks in by_victim(results):
        row = _described(result) | {"sweep": sweep}
        control, clean = controls.get(unwatermarked_twin(result.trial)), result.outcome.clean_acc
        if control is not None and clean is not None:
            row["clean_drop"] = control - clean
        row |= robustness([attack.outcome for attack in attacks])
        table.append({name: row.get(name) for name in COLUMNS})
    return table


def unwatermarked_twin(trial: Trial) -> str:
    """The name that a trial shares with its unmarked control: its content without the scheme."""
    tree = encode(trial)
    del tree["victim"]["scheme"]
    return digest(tree)


def by_victim(results: Sequence[TrialResult]) -> list[tuple[TrialResult, list[TrialResult]]]:
    """Results in the order of `rows`, each with the attacks on it."""
    attacks: dict[str, list[TrialResult]] = {}
    for result in results:
        if result.trial.attack is not None:
            attacks.setdefault(result.outcome.victim_digest, []).append(result)
    found: list[tuple[TrialResult, list[TrialResult]]] = []
    for result in results:
        if result.trial.attack is None:
            own = attacks.pop(result.outcome.digest, [])
            found += [(result, own), *((attack, []) for attack in own)]
    return found + [(orphan, []) for orphans in attacks.values() for orphan in orphans]


def _described(result: TrialResult) -> dict[str, Any]:
    victim, attack, outcome = result.trial.victim, result.trial.attack, result.outcome
    row = {name: getattr(victim.scheme, name, None) for name in SCHEME}
    row |= {name: getattr(outcome, name, None) for name in COLUMNS if name not in row}
    row |= {"kind": "victim", "scheme": victim.scheme.kind, "model": victim.model.kind, "victim_seed": victim.seed}
    row |= {"checkpoint": victim.recipe.keep, "mlflow_run_id": result.run_id}
    # Journals of older versions do not say what follows; `sync` writes their tables anew.
    if outcome.p_value is not None and outcome.query_matches is not None:
        row |= decisions(outcome.p_value, outcome.query_matches, victim.scheme.num_queries)
    row["trial"] = json.dumps(encode(result.trial), sort_keys=True)
    if attack is not None:
        student = attack.student or victim.model
        row |= {"kind": "attack", "attack": attack.kind, "labels": attack.labels, "source": attack.source.kind}
        row |= {"student": student.kind, "budget": attack.budget, "attack_seed": attack.seed}
    return row
