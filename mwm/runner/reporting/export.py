"""Results of a sweep as files: for a spreadsheet, for a program, and pictures for a person."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mwm.runner.reporting import retention
from mwm.runner.reporting.groups import (
    Configuration,
    Members,
    attacked,
    by_scheme,
    detection_rate,
    group_by_configuration,
    present,
)
from mwm.runner.reporting.results import TrialResult, columns, result_rows
from mwm.runner.reporting.retention import RetentionPoint, points, worst_case
from mwm.stats.intervals import mean_and_sd
from mwm.storage.filesystem import write_atomic
from mwm.trials.outcome import LEVELS, STATUSES, TRIAL_KINDS, Outcome

WORDS = {field.name for field in fields(Outcome) if field.type == "str"} | {"mlflow_run_id", "trial", "victim.secret"}
"""Columns whose content may look like a number, and is none."""

GROUPED = ("clean_acc", "query_acc", "clean_drop", "agreement", "log10_p", *LEVELS)


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of results.csv of a sweep's folder: numbers, truths and words under their columns, None where empty.

    Raises ValueError, in one line, where there are none.
    """
    path = Path(folder) / "results.csv"
    try:
        with path.open(newline="") as file:
            return [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name the folder of a sweep") from None


def _value(name: str, text: str) -> Any:
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in () if name in WORDS else (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write_results(folder: Path, sweep: str, results: Sequence[TrialResult], *, seconds: float, complete: bool) -> None:
    """Write results.csv, summary.json and, where something was attacked, retention.csv, each replaced at once.

    `seconds` is the sweep's duration.
    """
    text, table = io.StringIO(), result_rows(results)
    writer = csv.DictWriter(text, columns(table), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_atomic(folder / "results.csv", text.getvalue())
    counts: Counter[tuple[str, str]] = Counter(
        ("victim" if result.trial.attack is None else "attack", result.outcome.status) for result in results
    )
    groups = group_by_configuration(table)
    found = points(groups)
    best = worst_case(found, attacked(groups))
    summary = {
        "sweep": sweep,
        "complete": complete,
        "seconds": seconds,
        **{f"{kind}s": {status: counts[kind, status] for status in STATUSES} for kind in TRIAL_KINDS},
        "table": [_entry(*settings, members) for settings, members in groups.items()],
        "detections": [
            {"scheme": scheme, "attack": dict(attack), **detection_rate(members)}
            for (scheme, attack), members in by_scheme(groups).items()
        ],
        "worst_case": [
            {
                "victim": dict(victim),
                "accuracy_drop": {str(most): _strongest_attack(point) for most, point in attackers.items()},
            }
            for victim, attackers in best.items()
        ],
    }
    write_atomic(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    if found:
        retention.write(found, folder / "retention.csv")


def _entry(victim: Configuration, attack: Configuration | None, members: Members) -> dict[str, Any]:
    entry: dict[str, Any] = {"victim": dict(victim), "attack": None if attack is None else dict(attack)}
    entry |= {status: sum(row["status"] == status for row in members) for status in STATUSES}
    return entry | {name: mean_and_sd(present(members, name)) for name in GROUPED}


def _strongest_attack(point: RetentionPoint | None) -> dict[str, Any] | None:
    """The attacker of a worst case, and what it left."""
    if point is None or point.accuracy_drop is None:
        return None
    told = {"students": point.students, "query_acc": point.query_acc.value, "accuracy_drop": 100 * point.accuracy_drop}
    return told | {"attack": dict(point.attack), "query_budget": point.budget}
