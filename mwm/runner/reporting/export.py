"""Results of a sweep as files: for a spreadsheet, for a program, and pictures for a person."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
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
from mwm.runner.reporting.results import COLUMNS, TrialResult, result_rows
from mwm.runner.reporting.retention import RetentionPoint, points, worst_case
from mwm.stats.intervals import mean_and_sd
from mwm.storage.filesystem import write_atomic
from mwm.trials.outcome import LEVELS, STATUSES, TRIAL_KINDS

GROUPED = ("clean_acc", "query_acc", "clean_drop", "agreement", "log10_p", *LEVELS)


def write_results(folder: Path, sweep: str, results: Sequence[TrialResult], *, seconds: float, complete: bool) -> None:
    """Write results.csv, summary.json and, where something was stolen, retention.csv, each replaced at once.

    `seconds` is the sweep's duration.
    """
    text, table = io.StringIO(), result_rows(sweep, results)
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_atomic(folder / "results.csv", text.getvalue())
    counts: Counter[tuple[str, str]] = Counter((row["kind"], row["status"]) for row in table)
    groups = group_by_configuration(results, table)
    found = points(groups)
    best = worst_case(found, attacked(groups))
    summary = {
        "sweep": sweep,
        "complete": complete,
        "seconds": seconds,
        **{f"{kind}s": {status: counts[kind, status] for status in STATUSES} for kind in TRIAL_KINDS},
        "table": [_entry(*settings, members) for settings, members in groups.items()],
        "convictions": [
            {"scheme": scheme, "attack": dict(attack), **detection_rate(members)}
            for (scheme, attack), members in by_scheme(groups).items()
        ],
        "headline": [
            {
                "victim": dict(victim),
                "accuracy_drop": {str(most): _strongest_attack(point) for most, point in thieves.items()},
            }
            for victim, thieves in best.items()
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
    """The thief of a headline, and what it left."""
    if point is None or point.accuracy_drop is None:
        return None
    told = {"students": point.students, "query_acc": point.query_acc.value, "accuracy_drop": 100 * point.accuracy_drop}
    return told | {"attack": dict(point.attack), "budget": point.budget}
