"""Results of a sweep as rows: one per trial, all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mwm.config.spec import digest, encode, flatten
from mwm.runner.reporting.groups.configurations import CLASSES, Row
from mwm.runner.reporting.groups.threats import threat_columns, threat_model
from mwm.trials.outcome import Outcome, robustness
from mwm.trials.scoring import on_class_key, on_smaller_key
from mwm.trials.trial import Trial
from mwm.watermarks.schemes.base import SchemeRecord

KeySize = int | Literal["classes"] | None
"""On which key a control is scored: one of so many images, one with a cell for each class, or all images there are."""

LEFT_OUT = (
    *("label_ranks", "score_ranks", "second_label_ranks", "second_score_ranks"),
    *("class_query_hits", "class_label_ranks", "class_score_ranks"),
)
"""Fields of an outcome that are no columns: the ranks of each cell, which the journal and the store keep."""


@dataclass(frozen=True)
class TrialResult:
    """One finished, failed or skipped trial of a sweep; the trial is complete, with student and recipe filled in."""

    trial: Trial
    outcome: Outcome
    run_id: str = ""


def result_rows(results: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """One row per result: each victim followed by its attacks, attacks without their victim last.

    Beside the fields of the trial and of its outcome, whose `steps` are JSON: the threat model of an attack
    (`threat.access`, ...); `kind`; `cells`, which says what a cell of the key holds, an
    image (`images`) or a class (`classes`); `clean_drop`, the clean accuracy that is missing against the same trial
    without a watermark; what all attacks on a victim left (`worst_query_acc`, ...); `mlflow_run_id`; and `trial`, all
    of the trial as JSON. A control, and an attack on one, has a row for each key with which it is compared: it is one
    network, scored on each. The size of a key of images stands under `victim.scheme.num_queries`.
    """
    keys = _keys_of_controls(results)
    controls = {
        unwatermarked_twin(result.trial): result.outcome.clean_acc
        for result in reversed(results)
        if _is_control(result.trial) and result.outcome.clean_acc is not None
    }
    table = []
    for result, attacks in by_victim(results):
        control, clean = controls.get(unwatermarked_twin(result.trial)), result.outcome.clean_acc
        drop = {} if control is None or clean is None else {"clean_drop": control - clean}
        own = keys.get(_without_scheme(result.trial), []) if _is_control(result.trial) else []
        for key in own or [None]:
            left = robustness([_scored(attack, key) for attack in attacks])
            more = {"mlflow_run_id": result.run_id, "trial": json.dumps(encode(result.trial), sort_keys=True)}
            table.append(_described(result, key) | drop | left | more)
    return table


def _is_control(trial: Trial) -> bool:
    return trial.victim.scheme.kind == "none"


def _keys_of_controls(results: Iterable[TrialResult]) -> dict[str, list[KeySize]]:
    """The keys with which a control is compared, by what it shares with them: the smallest first, that of classes last.

    Only keys that are drawn as the control's own are: of those, a smaller one is the beginning of a larger one.
    """
    found: dict[str, set[KeySize]] = {}
    for result in results:
        if (key := _key_size(result.trial)) is not None:
            found.setdefault(_without_scheme(result.trial), set()).add(key)
    return {name: sorted(keys, key=lambda key: (key == CLASSES, key)) for name, keys in found.items()}


def _key_size(trial: Trial) -> KeySize:
    """The key of a trial's scheme, or the first of two, if it is of images, drawn as most are, or of classes."""
    scheme = trial.victim.scheme.parts()[0]
    usual = type(scheme).draw is SchemeRecord.draw
    size: int | None = scheme.cells
    if size is None:
        return None if usual else CLASSES
    return size if usual else None


def _without_scheme(trial: Trial) -> str:
    return unwatermarked_twin(Trial(victim=trial.victim))


def _scored(result: TrialResult, key: KeySize) -> Outcome:
    if key is None:
        return result.outcome
    return on_class_key(result.outcome) if key == CLASSES else on_smaller_key(result.outcome, key)


def late_metrics(row: Row) -> dict[str, float]:
    """What only the whole sweep tells of a trial: its clean drop, and a control's scores on each key."""
    found = {"clean_drop": row["clean_drop"]} if "clean_drop" in row else {}
    size = CLASSES if row["cells"] == CLASSES else row.get("victim.scheme.num_queries")
    if row["victim.scheme.kind"] == "none" and size is not None and row["query_acc"] is not None:
        found |= {f"key_{size}.query_acc": row["query_acc"], f"key_{size}.log10_p": row["log10_p"]}
    return found


def unwatermarked_twin(trial: Trial) -> str:
    """The name that a trial shares with its unmarked control: its content without the scheme."""
    tree = encode(trial)
    del tree["victim"]["scheme"]
    return digest(tree)


def by_victim(results: Sequence[TrialResult]) -> list[tuple[TrialResult, list[TrialResult]]]:
    """Results in the order of `result_rows`, each with the attacks on it."""
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


def _described(result: TrialResult, key: KeySize) -> dict[str, Any]:
    trial = result.trial
    tree = encode(trial)
    if isinstance(key, int):
        tree["victim"]["scheme"] |= {"num_queries": key}
    cells = CLASSES if CLASSES in (key, _key_size(trial)) else "images"
    row = {"kind": "victim" if trial.attack is None else "attack", "cells": cells} | flatten(tree)
    row.pop("attack", None)
    told = {name: value for name, value in asdict(_scored(result, key)).items() if name not in LEFT_OUT}
    steps = {"steps": json.dumps(result.outcome.steps) if result.outcome.steps else None}
    return row | threat_columns(threat_model(trial.attack)) | told | steps
