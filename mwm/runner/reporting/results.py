"""Results of a sweep as rows: one per trial, all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mwm.config.spec import digest, encode, flatten
from mwm.trials.outcome import Outcome, on_smaller_key, robustness
from mwm.trials.trial import Trial
from mwm.watermarks.schemes.base import SchemeRecord

Row = Mapping[str, Any]
"""What is known of one trial, by column: the fields of the trial under their dotted paths ("victim.scheme.steps"), then
what it measured. Fields that a trial does not have are missing."""


@dataclass(frozen=True)
class TrialResult:
    """One finished, failed or skipped trial of a sweep; the trial is complete, with student and recipe filled in."""

    trial: Trial
    outcome: Outcome
    run_id: str = ""


def result_rows(results: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """One row per result: each victim followed by its attacks, attacks without their victim last.

    Beside the fields of the trial and of its outcome: `kind`, `clean_drop`, the clean accuracy that is missing against
    the same trial without a watermark, what all attacks on a victim left (`worst_query_acc`, ...), `mlflow_run_id`, and
    `trial`, all of the trial as JSON. A control, and an attack on one, has a row for each size of key with which it is
    compared, under `victim.scheme.num_queries`: it is one network, scored on each.
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
        for cells in keys.get(_without_scheme(result.trial), [None]) if _is_control(result.trial) else [None]:
            left = robustness([_scored(attack, cells) for attack in attacks])
            more = {"mlflow_run_id": result.run_id, "trial": json.dumps(encode(result.trial), sort_keys=True)}
            table.append(_described(result, cells) | drop | left | more)
    return table


def _is_control(trial: Trial) -> bool:
    return trial.victim.scheme.kind == "none"


def _keys_of_controls(results: Iterable[TrialResult]) -> dict[str, list[int | None]]:
    """How many cells the keys have with which a control is compared, smallest first, by what it shares with them.

    Only keys that are drawn as the control's own are: of those, a smaller one is the beginning of a larger one.
    """
    found: dict[str, set[int]] = {}
    for result in results:
        scheme = result.trial.victim.scheme
        if scheme.cells is not None and type(scheme).draw is SchemeRecord.draw:
            found.setdefault(_without_scheme(result.trial), set()).add(scheme.cells)
    return {name: [*sorted(cells)] for name, cells in found.items()}


def _without_scheme(trial: Trial) -> str:
    return unwatermarked_twin(Trial(victim=trial.victim))


def _scored(result: TrialResult, cells: int | None) -> Outcome:
    return result.outcome if cells is None else on_smaller_key(result.outcome, cells)


def late_metrics(row: Row) -> dict[str, float]:
    """What only the whole sweep tells of a trial: its clean drop, and a control's scores on each key."""
    found = {"clean_drop": row["clean_drop"]} if "clean_drop" in row else {}
    if row["victim.scheme.kind"] == "none" and "victim.scheme.num_queries" in row and row["query_acc"] is not None:
        key = f"key_{row['victim.scheme.num_queries']}"
        found |= {f"{key}.query_acc": row["query_acc"], f"{key}.log10_p": row["log10_p"]}
    return found


def columns(table: Iterable[Row]) -> list[str]:
    """The columns that occur in rows, each once: what a row brings anew stands behind what it follows there."""
    found: list[str] = []
    for row in table:
        place = 0
        for name in row:
            if name in found:
                place = found.index(name) + 1
            else:
                found.insert(place, name)
                place += 1
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


def _described(result: TrialResult, cells: int | None) -> dict[str, Any]:
    trial, key = result.trial, {} if cells is None else {"num_queries": cells}
    tree = encode(trial)
    tree["victim"]["scheme"] |= key
    row = {"kind": "victim" if trial.attack is None else "attack"} | flatten(tree)
    row.pop("attack", None)
    return row | asdict(_scored(result, cells))
