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
from mwm.runner.reporting.groups import Members, Setting, by_scheme, convicted, grouped, measured, stolen_of
from mwm.runner.reporting.results import COLUMNS, Result, rows
from mwm.runner.reporting.retention import Point, headline, points
from mwm.stats.intervals import moments
from mwm.storage.filesystem import put
from mwm.trials.outcome import KINDS, LEVELS, STATUSES

GROUPED = ("clean_acc", "query_acc", "clean_drop", "agreement", "log10_p", *LEVELS)


def write(folder: Path, sweep: str, results: Sequence[Result], *, seconds: float, complete: bool) -> None:
    """Write results.csv, summary.json and, where something was stolen, retention.csv, each replaced at once.

    `seconds` is the sweep's duration.
    """
    text, table = io.StringIO(), rows(sweep, results)
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    put(folder / "results.csv", text.getvalue())
    counts: Counter[tuple[str, str]] = Counter((row["kind"], row["status"]) for row in table)
    groups = grouped(results, table)
    found = points(groups)
    best = headline(found, stolen_of(groups))
    summary = {
        "sweep": sweep,
        "complete": complete,
        "seconds": seconds,
        **{f"{kind}s": {status: counts[kind, status] for status in STATUSES} for kind in KINDS},
        "table": [_entry(*settings, members) for settings, members in groups.items()],
        "convictions": [
            {"scheme": scheme, "attack": dict(attack), **convicted(members)}
            for (scheme, attack), members in by_scheme(groups).items()
        ],
        "headline": [
            {"victim": dict(victim), "points_lost": {str(most): _thief(point) for most, point in thieves.items()}}
            for victim, thieves in best.items()
        ],
    }
    put(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    if found:
        retention.write(found, folder / "retention.csv")


def _entry(victim: Setting, attack: Setting | None, members: Members) -> dict[str, Any]:
    entry: dict[str, Any] = {"victim": dict(victim), "attack": None if attack is None else dict(attack)}
    entry |= {status: sum(row["status"] == status for row in members) for status in STATUSES}
    return entry | {name: moments(measured(members, name)) for name in GROUPED}


def _thief(point: Point | None) -> dict[str, Any] | None:
    """The thief of a headline, and what it left."""
    if point is None or point.lost is None:
        return None
    told = {"students": point.students, "query_acc": point.query_acc.value, "points_lost": 100 * point.lost}
    return told | {"attack": dict(point.attack), "budget": point.budget}
