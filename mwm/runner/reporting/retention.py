"""Retention: what is left of a watermark, by what the attacker spent and by how good its student became."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from mwm.attacks.threat import ThreatModel
from mwm.runner.reporting.csv_files import write_csv
from mwm.runner.reporting.groups.configurations import CLASSES, Configuration, Groups, attacked
from mwm.runner.reporting.groups.measures import present
from mwm.runner.reporting.groups.names import attacks_of, configuration_names, victim_names
from mwm.runner.reporting.groups.strength import Curve, curves
from mwm.runner.reporting.groups.threats import THREAT, threat_columns, threat_order, threats
from mwm.stats.intervals import MeanInterval, mean_interval
from mwm.trials.outcome import PROVEN_AT_DEFAULT

BUDGET = "query_budget"
"""The field of an attack that has a column of its own in the CSV, whatever says how strong the attack is."""

NEEDED = ("query_acc", "clean_acc")
"""What a row must tell of a student to be counted."""

ACCURACY_DROPS = (1, 3, 5)
"""Points of clean accuracy that an attacker may give up in the table of worst cases."""

COLUMNS = (
    *("setting", "scheme", "attack", "query_budget", "strength", "strength_field"),
    *(f"{THREAT}{field.name}" for field in fields(ThreatModel)),
    *("seeds", "students", "detected", "oracle_calls"),
    *("neg_log10_p", "neg_log10_p_low", "neg_log10_p_high", "query_acc", "query_acc_low", "query_acc_high"),
    *("clean_acc", "clean_acc_low", "clean_acc_high", "accuracy_drop", "victim_setting", "attack_setting"),
)
"""The columns of retention.csv; then follow the fields of schemes that occur.

`strength` is the value of the field `strength_field` of the attack. Of `seeds` trials `students` were measured and
`detected` of them proven to be copies; the means are theirs. `neg_log10_p` is -log10 p, `accuracy_drop` how many points
of clean accuracy students have less than their victims; the last two are the whole configurations as JSON."""


@dataclass(frozen=True, kw_only=True)
class RetentionPoint:
    """One attack of one strength on one configuration: what it cost, and what it left of the watermark.

    "Students" are the networks that attackers end with, trained afresh or not. `attack` is the whole configuration,
    `curve` what it is apart from its strength. `threat` is None for rows of earlier releases. `calls` is None for
    an attack without an oracle. `neg_log10_p` is -log10 p; None where the labels of a scheme allow no exact test.
    `accuracy_drop` is the clean accuracy of the victims minus that of their students; None where a victim is unknown.
    Of `seeds` trials, those that failed or were never attacked among them, `students` were measured, and `detected` of
    them are proven to be copies at the usual level; None as for `neg_log10_p`.
    """

    victim: Configuration
    attack: Configuration
    curve: Curve
    threat: ThreatModel | None
    seeds: int
    students: int
    detected: int | None
    calls: float | None
    neg_log10_p: MeanInterval | None
    query_acc: MeanInterval
    clean_acc: MeanInterval
    accuracy_drop: float | None

    @property
    def budget(self) -> int | None:
        """The query budget: None for the attacker who may ask in every epoch, or asks nobody."""
        budget: int | None = dict(self.attack).get(BUDGET)
        return budget

    @property
    def complete(self) -> bool:
        """Whether every seed is done: the worst may be just the one that is missing."""
        return self.students == self.seeds


def points(groups: Groups) -> list[RetentionPoint]:
    """What each attack of each strength left of each configuration's watermark; failed students are not in the means.

    Ordered by setting, attack and strength, those without a bound last.
    """
    attacks = attacks_of(groups)
    curve_of, told = curves(attacks), threats(groups)
    owned = {row["digest"]: row["clean_acc"] for (_, attack), rows in groups.items() if attack is None for row in rows}
    seen = {victim: {row["digest"] for row in groups.get((victim, None), [])} for victim in attacked(groups)}
    found = []
    for victim, attack in product(attacked(groups), attacks):
        members = groups.get((victim, attack), [])
        students = [row for row in members if all(row.get(name) is not None for name in NEEDED)]
        if not students:
            continue
        logs, proofs = present(students, "log10_p"), present(students, PROVEN_AT_DEFAULT)
        above = [owned.get(row["victim_digest"]) for row in students]
        lost = [clean - row["clean_acc"] for clean, row in zip(above, students, strict=True) if clean is not None]
        point = RetentionPoint(
            victim=victim,
            attack=attack,
            curve=curve_of[attack],
            threat=told.get(attack),
            seeds=len(members) + len(seen[victim] - {row["victim_digest"] for row in members}),
            students=len(students),
            detected=round(sum(proofs)) if len(proofs) == len(students) else None,
            calls=fmean(calls) if len(calls := present(students, "oracle_calls")) == len(students) else None,
            neg_log10_p=mean_interval([0.0 - one for one in logs]) if len(logs) == len(students) else None,
            query_acc=mean_interval([row["query_acc"] for row in students], 1.0),
            clean_acc=mean_interval([row["clean_acc"] for row in students], 1.0),
            accuracy_drop=fmean(lost) if len(lost) == len(students) else None,
        )
        found.append(point)
    return found


def worst_case(
    found: Sequence[RetentionPoint], victims: Sequence[Configuration]
) -> dict[Configuration, dict[int, RetentionPoint | None]]:
    """What the watermark of each attacked configuration keeps against the best attacker that gives up 1, 3 or 5 points.

    Of all attacks and budgets whose students are, on average over seeds, at most so many points (hundredths) of clean
    accuracy below their victims: the one with the least mean -log10 p, or the lowest mean query accuracy where no test
    is exact; of equals the one that lost least. Only those compete of which every seed is done. A student that is
    better than its victim has lost less than nothing, and counts. None where no attack makes so good a student.
    """
    kept: dict[Configuration, dict[int, RetentionPoint | None]] = {
        victim: dict.fromkeys(ACCURACY_DROPS) for victim in victims
    }
    complete = [point for point in found if point.complete]
    for point in sorted(complete, key=_what_is_left):
        for most, best in kept[point.victim].items():
            # A rounding error must not exclude a student that is just good enough.
            if best is None and point.accuracy_drop is not None and point.accuracy_drop <= most / 100 + 1e-9:
                kept[point.victim][most] = point
    return kept


def worst_by_threat(
    found: Sequence[RetentionPoint], victims: Sequence[Configuration]
) -> dict[ThreatModel, dict[Configuration, dict[int, RetentionPoint | None]]]:
    """The worst cases among the attackers whose threat models agree in everything.

    They may still differ in how many images they hold, and in how many calls they spend: no threat model has numbers.
    """
    groups: dict[ThreatModel, list[RetentionPoint]] = {}
    for point in found:
        if point.threat is not None:
            groups.setdefault(point.threat, []).append(point)
    return {threat: worst_case(groups[threat], victims) for threat in sorted(groups, key=threat_order)}


def _what_is_left(point: RetentionPoint) -> tuple[float, float, float]:
    proof = 0.0 if point.neg_log10_p is None else point.neg_log10_p.value
    return proof, point.query_acc.value, point.accuracy_drop or 0.0


def write(found: Sequence[RetentionPoint], path: Path) -> None:
    """Write the curves as CSV, one line per point."""
    victims = victim_names(point.victim for point in found)
    attacks = configuration_names([*dict.fromkeys(point.curve.attack for point in found)], "kind")
    write_csv([_row(point, victims[point.victim], attacks[point.curve.attack]) for point in found], COLUMNS, path)


def scheme_fields(victim: Configuration) -> dict[str, Any]:
    """The fields of a victim's scheme but its kind, as columns; a key of classes has no number of images."""
    told = [(path, value) for path, value in victim if path.startswith("scheme.") and path != "scheme.kind"]
    return {path: value for path, value in told if value != CLASSES}


def _row(point: RetentionPoint, setting: str, attack: str) -> dict[str, Any]:
    victim = dict(point.victim)
    means = {name: getattr(point, name) for name in ("neg_log10_p", "query_acc", "clean_acc")}
    return {
        **{"setting": setting, "scheme": victim["scheme.kind"], "attack": attack, "query_budget": point.budget},
        **{"strength": point.curve.strength, "strength_field": point.curve.field or None},
        **threat_columns(point.threat),
        **{"seeds": point.seeds, "students": point.students, "detected": point.detected, "oracle_calls": point.calls},
        **{name: mean.value for name, mean in means.items() if mean},
        **{f"{name}_{end}": getattr(mean, end) for name, mean in means.items() if mean for end in ("low", "high")},
        "accuracy_drop": None if point.accuracy_drop is None else 100 * point.accuracy_drop,
        **{"victim_setting": json.dumps(victim), "attack_setting": json.dumps(dict(point.curve.attack))},
        **scheme_fields(point.victim),
    }
