"""Retention: what is left of a watermark, by what the thief spent and by how good its student became."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from mwm.runner.reporting.groups import Groups, Setting, attacks_of, names, stolen_of, unbudgeted
from mwm.runner.reporting.results import SCHEME
from mwm.stats.intervals import Mean, _mean
from mwm.storage.filesystem import put

NEEDED = ("query_acc", "log10_p", "clean_acc", "oracle_calls")
"""What a row must tell of a student to be counted."""

POINTS_LOST = (1, 3, 5)
"""Points of clean accuracy that a thief may give up in the headline."""

COLUMNS = (
    *("setting", "scheme", *SCHEME, "attack", "budget", "seeds", "students", "oracle_calls"),
    *("query_acc", "query_acc_low", "query_acc_high", "evidence", "evidence_low", "evidence_high"),
    *("clean_acc", "clean_acc_low", "clean_acc_high", "points_lost", "victim_setting", "attack_setting"),
)
"""The columns of retention.csv. Of `seeds` trials `students` were measured; the means are theirs. `evidence` is
-log10 p, `points_lost` the clean accuracy below the victim's in points; the last two are the whole settings as JSON."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The students of one setting by one attack with one budget: what they cost, and what they kept of the watermark.

    `attack` is the setting without its budget; `budget` None is the thief who may ask in every epoch. `evidence` is
    -log10 p. `lost` is the clean accuracy of the victims minus that of their students; None where a victim is unknown.
    Of `seeds` trials, those that nobody stole from or that failed among them, `students` were measured.
    """

    victim: Setting
    attack: Setting
    budget: int | None
    seeds: int
    students: int
    calls: float
    query_acc: Mean
    evidence: Mean
    clean_acc: Mean
    lost: float | None

    @property
    def complete(self) -> bool:
        """Whether every seed is done: the worst may be just the one that is missing."""
        return self.students == self.seeds


def points(groups: Groups) -> list[Point]:
    """What each attack with each budget left of each setting's watermark; failed students are not in the means.

    Ordered by setting, attack and budget, the published way last.
    """
    owned = {row["digest"]: row["clean_acc"] for (_, attack), rows in groups.items() if attack is None for row in rows}
    seen = {victim: {row["digest"] for row in groups.get((victim, None), [])} for victim in stolen_of(groups)}
    found = []
    for victim, attack in product(stolen_of(groups), attacks_of(groups)):
        members = groups.get((victim, attack), [])
        students = [row for row in members if all(row[name] is not None for name in NEEDED)]
        if not students:
            continue
        above = [owned.get(row["victim_digest"]) for row in students]
        lost = [clean - row["clean_acc"] for clean, row in zip(above, students, strict=True) if clean is not None]
        point = Point(
            victim=victim,
            attack=unbudgeted(attack),
            budget=dict(attack)["budget"],
            seeds=len(members) + len(seen[victim] - {row["victim_digest"] for row in members}),
            students=len(students),
            calls=fmean(row["oracle_calls"] for row in students),
            query_acc=_mean([row["query_acc"] for row in students], 1.0),
            evidence=_mean([0.0 - row["log10_p"] for row in students]),
            clean_acc=_mean([row["clean_acc"] for row in students], 1.0),
            lost=fmean(lost) if len(lost) == len(students) else None,
        )
        found.append(point)
    return found


def headline(found: Sequence[Point], stolen: Sequence[Setting]) -> dict[Setting, dict[int, Point | None]]:
    """What the watermark of each `stolen` setting keeps against the best thief that gives up 1, 3 or 5 points at most.

    Of all attacks and budgets whose students are, on average over seeds, at most so many points (hundredths) of clean
    accuracy below their victims: the one with the lowest mean query accuracy, of equals the one that lost least. Only
    those compete of which every seed is done. A student that is better than its victim has lost less than nothing, and
    counts. None where no attack makes so good a student.
    """
    kept: dict[Setting, dict[int, Point | None]] = {victim: dict.fromkeys(POINTS_LOST) for victim in stolen}
    complete = [point for point in found if point.complete]
    for point in sorted(complete, key=lambda point: (point.query_acc.value, point.lost or 0.0)):
        for most, best in kept[point.victim].items():
            # A rounding error must not exclude a student that is just good enough.
            if best is None and point.lost is not None and point.lost <= most / 100 + 1e-9:
                kept[point.victim][most] = point
    return kept


def write(found: Sequence[Point], path: Path) -> None:
    """Write the curves as CSV, one line per point."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    schemes, attacks = _words(found)
    writer.writerows(_row(point, schemes[point.victim], attacks[point.attack]) for point in found)
    put(path, text.getvalue())


def _row(point: Point, setting: str, attack: str) -> dict[str, Any]:
    victim, means = dict(point.victim), {name: getattr(point, name) for name in ("query_acc", "evidence", "clean_acc")}
    return {
        **{name: victim.get(f"scheme.{name}") for name in SCHEME},
        **{"setting": setting, "scheme": victim["scheme.kind"], "attack": attack, "budget": point.budget},
        **{"seeds": point.seeds, "students": point.students, "oracle_calls": point.calls},
        **{name: mean.value for name, mean in means.items()},
        **{f"{name}_{end}": getattr(mean, end) for name, mean in means.items() for end in ("low", "high")},
        "points_lost": None if point.lost is None else 100 * point.lost,
        **{"victim_setting": json.dumps(victim), "attack_setting": json.dumps(dict(point.attack))},
    }


def _words(found: Sequence[Point]) -> tuple[dict[Setting, str], dict[Setting, str]]:
    """What the settings of victims and of attacks are called; a scheme is told from others of its kind alone."""
    kinds: dict[str, list[Setting]] = {}
    for victim in dict.fromkeys(point.victim for point in found):
        kinds.setdefault(dict(victim)["scheme.kind"], []).append(victim)
    victims = {one: name for alike in kinds.values() for one, name in names(alike, "scheme.kind").items()}
    return victims, names([*dict.fromkeys(point.attack for point in found)], "kind")
