"""Results of a sweep as files: for a spreadsheet, for a program, and pictures for a person."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mwm.attacks.threat import ThreatModel
from mwm.runner.reporting import front, retention
from mwm.runner.reporting.csv_files import write_csv
from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, attacked, group_by_configuration
from mwm.runner.reporting.groups.measures import (
    DAMAGED,
    by_scheme,
    damaged_statistics,
    detection_rate,
    present,
    unmarked_victims,
)
from mwm.runner.reporting.groups.threats import rows_of_threats, spent_columns, threat_of
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.retention import RetentionPoint, points, worst_by_threat, worst_case
from mwm.stats.intervals import mean_and_sd
from mwm.storage.filesystem import write_atomic
from mwm.trials.outcome import LEVELS, STATUSES, TRIAL_KINDS, UNMARKED, UNPROVEN

GROUPED = (
    *("start_acc", "clean_acc", "clean_drop", "reestimated_clean_acc", "agreement"),
    *("log10_p", "log10_p_labels", "log10_p_scores", "log10_p_uncontrolled", "second_log10_p"),
    *("log10_p_unconditional", *LEVELS, "mean_rank", "wrong_answers"),
    *("query_acc", "reestimated_query_acc", "false_rejects"),
)
"""The measures whose means over seeds stand in the table of summary.json."""


def write_results(folder: Path, sweep: str, results: Sequence[TrialResult], *, seconds: float, complete: bool) -> None:
    """Write results.csv and summary.json; where something was attacked retention.csv, and front.csv with a control.

    Each is replaced at once. `seconds` is the sweep's duration.
    """
    table = result_rows(results)
    write_csv(table, (), folder / "results.csv")
    counts: Counter[tuple[str, str]] = Counter(
        ("victim" if result.trial.attack is None else "attack", result.outcome.status) for result in results
    )
    groups = group_by_configuration(table)
    found = points(groups)
    summary: dict[str, Any] = {
        "sweep": sweep,
        "complete": complete,
        "seconds": seconds,
        **{f"{kind}s": {status: counts[kind, status] for status in STATUSES} for kind in TRIAL_KINDS},
        **_tables(groups, found),
    }
    summary["victims"] |= {UNMARKED: sum(result.outcome.marked is False for result in results)}
    write_atomic(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    if found:
        retention.write(found, folder / "retention.csv")
    if marks := front.points(groups):
        front.write(marks, folder / "front.csv")


def _tables(groups: Groups, found: Sequence[RetentionPoint]) -> dict[str, Any]:
    """The tables of a sweep, and what is to be known before they are believed."""
    rows = rows_of_threats(groups)
    return {
        "table": [_entry(*settings, members) for settings, members in groups.items()],
        "unmarked": [
            {"victim": dict(victim), "victims": count, "unmarked": unmarked, "warning": UNPROVEN}
            for victim, (unmarked, count) in unmarked_victims(groups).items()
        ],
        "warnings": [
            {"victim": dict(victim), "clean_acc": own, "reestimated_clean_acc": anew, "warning": DAMAGED}
            for victim, (own, anew) in damaged_statistics(groups).items()
        ],
        "detections": [
            {
                **{"scheme": scheme, "attack": dict(attack), "threat": _threat(threat_of(members))},
                **detection_rate(members),
            }
            for (scheme, attack), members in by_scheme(groups).items()
        ],
        "worst_case": [_worst(victim, attackers) for victim, attackers in worst_case(found, attacked(groups)).items()],
        "worst_case_by_threat": [
            asdict(threat) | spent_columns(rows[threat]) | _worst(victim, attackers)
            for threat, worst in worst_by_threat(found, attacked(groups)).items()
            for victim, attackers in worst.items()
        ],
    }


def _worst(victim: Configuration, attackers: Mapping[int, RetentionPoint | None]) -> dict[str, Any]:
    told = {str(most): _strongest_attack(point) for most, point in attackers.items()}
    return {"victim": dict(victim), "accuracy_drop": told}


def _threat(threat: ThreatModel | None) -> dict[str, Any] | None:
    return None if threat is None else asdict(threat)


def _entry(victim: Configuration, attack: Configuration | None, members: Members) -> dict[str, Any]:
    entry: dict[str, Any] = {"victim": dict(victim), "attack": None if attack is None else dict(attack)}
    entry |= {} if attack is None else {"threat": _threat(threat_of(members))}
    entry |= {status: sum(row["status"] == status for row in members) for status in STATUSES}
    return entry | {name: mean_and_sd(present(members, name)) for name in GROUPED}


def _strongest_attack(point: RetentionPoint | None) -> dict[str, Any] | None:
    """The attacker of a worst case, and what it left."""
    if point is None or point.accuracy_drop is None:
        return None
    proof = None if point.neg_log10_p is None else point.neg_log10_p.value
    told: dict[str, Any] = {"students": point.students, "detected": point.detected, "neg_log10_p": proof}
    told |= {"query_acc": point.query_acc.value, "accuracy_drop": 100 * point.accuracy_drop}
    told |= {"oracle_calls": point.calls}
    own = {path: value for path, value in point.attack if path != retention.BUDGET}
    told |= {"attack": own, "query_budget": point.budget}
    told |= {"strength": point.curve.strength, "strength_field": point.curve.field or None}
    return told | {"threat": _threat(point.threat)}
