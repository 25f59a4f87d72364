"""What rows of a configuration show together."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members
from mwm.stats.intervals import clopper_pearson
from mwm.trials.outcome import PROVEN_AT_DEFAULT

REESTIMATED, MOST_DAMAGE = "reestimated_clean_acc", 0.01
"""The clean accuracy of a victim whose statistics are estimated anew, and how far it may be off before that is told."""

DAMAGED = "this accuracy rests on damaged statistics"


def by_scheme(groups: Groups) -> dict[tuple[str, Configuration], Members]:
    """The students of each attack on each kind of scheme, all its settings together."""
    found: dict[tuple[str, Configuration], list[Mapping[str, Any]]] = {}
    for (victim, attack), members in groups.items():
        if attack is not None:
            found.setdefault((dict(victim)["scheme.kind"], attack), []).extend(members)
    return dict(found)


def present(members: Members, name: str) -> list[float]:
    """What the rows say under a name, where they say something."""
    return [row[name] for row in members if row.get(name) is not None]


def proven(members: Members) -> bool:
    """Whether the watermark is proven at the usual level in every seed that was measured, and in one at least."""
    proofs = present(members, PROVEN_AT_DEFAULT)
    return bool(proofs) and all(proofs)


def detection_rate(members: Members) -> dict[str, Any]:
    """How many of the students are shown to be copies at the usual level; their share, and its 95 % interval.

    A student counts once. One of a control is scored on several keys, and detected if any of them is proven.
    """
    proofs: dict[str, bool] = {}
    for row in members:
        if row.get(PROVEN_AT_DEFAULT) is not None:
            proofs[row["digest"]] = proofs.get(row["digest"], False) or row[PROVEN_AT_DEFAULT]
    count, students = sum(proofs.values()), len(proofs)
    low, high = clopper_pearson(count, students) if students else (None, None)
    part = count / students if students else None
    return {"students": students, "detected": count, "share": part, "low": low, "high": high}


def unmarked_victims(groups: Groups) -> dict[Configuration, tuple[int, int]]:
    """Settings with victims that carry no watermark: how many there are, and of how many that is known."""
    found = {}
    for (victim, attack), members in groups.items():
        known = present(members, "marked")
        if attack is None and (unmarked := known.count(False)):
            found[victim] = unmarked, len(known)
    return found


def damaged_statistics(groups: Groups) -> dict[Configuration, tuple[float, float]]:
    """Settings whose clean accuracy rests on damaged statistics: that accuracy, and the re-estimated one.

    They are means over seeds and differ by more than a point: the stored statistics of batch normalisation are not
    those of clean images.
    """
    found = {}
    for (victim, attack), members in groups.items():
        both = [row for row in members if row.get("clean_acc") is not None and row.get(REESTIMATED) is not None]
        if attack is None and both:
            own, anew = (fmean(present(both, name)) for name in ("clean_acc", REESTIMATED))
            if abs(own - anew) > MOST_DAMAGE + 1e-9:
                found[victim] = own, anew
    return found
