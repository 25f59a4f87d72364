"""The front: what a watermark still proves after the worst attack, by the clean accuracy that it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from mwm.runner.reporting import retention
from mwm.runner.reporting.csv_files import write_csv
from mwm.runner.reporting.groups.configurations import Configuration, Groups, attacked
from mwm.runner.reporting.groups.measures import present
from mwm.runner.reporting.groups.names import attacks_of, configuration_names, victim_names
from mwm.runner.reporting.retention import ACCURACY_DROPS, RetentionPoint, scheme_fields, worst_case

MOST_LOST = ACCURACY_DROPS[-1]
"""Points of clean accuracy that the student of the worst attack may lose: nobody steals a network to spoil it."""

COLUMNS = (
    *("setting", "scheme", "published", "on_front", "attack", "query_budget", "worst", "seeds", "students"),
    *("clean_drop", "clean_drop_low", "clean_drop_high", "neg_log10_p", "neg_log10_p_low", "neg_log10_p_high"),
    *("query_acc", "accuracy_drop", "victim_setting", "attack_setting"),
)
"""The columns of front.csv; then follow the fields of schemes that occur."""

BATCHNORM: dict[str, Any] = {"scheme.kind": "margin", "scheme.batchnorm": "reference"}

PUBLISHED = BATCHNORM | {"scheme.mass": 1.0, "scheme.step_size": 1 / 255, "scheme.weight": 0.1, "scheme.steps": 5}
"""The margin as Kim et al. (2023) published it; where no setting is that, those with its batch normalisation alone."""

RECIPES = {"published recipe (Kim et al., 2023)": PUBLISHED, "batch normalisation as published": BATCHNORM}


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, with the least and the largest of them."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """What one attack leaves of the proof of one setting, by the clean accuracy that its watermark costs.

    `attack` is told with its budget; `clean_drop` is a share. The `worst` attack of a setting is the one that leaves
    least, of those whose students lose at most 5 points. `on_front`: no watermark costs no more and proves more after
    its worst attack. `published` names the recipe that the setting is, if it is the published one.
    """

    point: RetentionPoint
    attack: Configuration
    clean_drop: Spread
    neg_log10_p: Spread
    worst: bool
    on_front: bool = False
    published: str = ""

    @property
    def scheme(self) -> str:
        """The kind of scheme."""
        kind: str = dict(self.point.victim)["scheme.kind"]
        return kind

    @property
    def place(self) -> tuple[float, float]:
        """Where it is drawn: points of accuracy, and -log10 p."""
        return 100 * self.clean_drop.value, self.neg_log10_p.value


def points(groups: Groups) -> list[FrontPoint]:
    """Every attack on every setting that has a control and an exact test; none if none of them has a watermark."""
    curves = retention.points(groups)
    known = {(point.victim, point.attack): point for point in curves}
    worst = {victim: best[MOST_LOST] for victim, best in worst_case(curves, attacked(groups)).items()}
    found = []
    for victim, attack in product(worst, attacks_of(groups)):
        point = known.get((victim, attack))
        drops = present(groups.get((victim, None), []), "clean_drop")
        if point is None or point.neg_log10_p is None or not drops:
            continue
        proofs = _spread([0.0 - log for log in present(groups[victim, attack], "log10_p")])
        own: dict[str, Any] = {"attack": attack, "clean_drop": _spread(drops), "neg_log10_p": proofs}
        found.append(FrontPoint(point=point, worst=worst[victim] is point, **own))
    if all(one.scheme == "none" for one in found):
        return []
    front, recipes = _front(found), _published(found)
    return [replace(one, on_front=one in front, published=recipes.get(one.point.victim, "")) for one in found]


def _spread(numbers: Sequence[float]) -> Spread:
    return Spread(fmean(numbers), min(numbers), max(numbers))


def _front(found: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The worst attacks on watermarks of which no other costs no more and proves more, the cheapest first."""
    front: list[FrontPoint] = []
    marked = [one for one in found if one.worst and one.scheme != "none"]
    for one in sorted(marked, key=lambda one: (one.place[0], -one.place[1])):
        if not front or one.place[1] > front[-1].place[1]:
            front.append(one)
    return front


def _published(found: Sequence[FrontPoint]) -> dict[Configuration, str]:
    """The settings that are the published recipe, or that share its batch normalisation, with what that is called."""
    for name, recipe in RECIPES.items():
        if own := {one.point.victim: name for one in found if recipe.items() <= dict(one.point.victim).items()}:
            return own
    return {}


def write(found: Sequence[FrontPoint], path: Path) -> None:
    """Write the front as CSV, one line per setting and attack."""
    victims, attacks = names(found)
    rows = [_row(one, victims[one.point.victim], attacks[one.attack]) for one in found]
    write_csv(rows, COLUMNS, path)


def names(found: Sequence[FrontPoint]) -> tuple[dict[Configuration, str], dict[Configuration, str]]:
    attacks = dict.fromkeys(one.attack for one in found)
    return victim_names(one.point.victim for one in found), configuration_names([*attacks], "kind")


def _row(one: FrontPoint, setting: str, attack: str) -> dict[str, Any]:
    point, spreads = one.point, {"clean_drop": one.clean_drop, "neg_log10_p": one.neg_log10_p}
    return {
        **{"setting": setting, "scheme": one.scheme, "published": one.published, "on_front": one.on_front},
        **{"attack": attack, "query_budget": point.budget, "worst": one.worst},
        **{"seeds": point.seeds, "students": point.students},
        **{name: spread.value for name, spread in spreads.items()},
        **{f"{name}_{end}": getattr(spread, end) for name, spread in spreads.items() for end in ("low", "high")},
        "query_acc": point.query_acc.value,
        "accuracy_drop": None if point.accuracy_drop is None else 100 * point.accuracy_drop,
        **{"victim_setting": json.dumps(dict(point.victim)), "attack_setting": json.dumps(dict(one.attack))},
        **scheme_fields(point.victim),
    }
