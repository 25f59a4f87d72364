"""Retention: what is left of a watermark, by what the thief spent and by how good its student became."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mwm.results import SCHEME
from mwm.settings import Groups, Setting, attacks_of, names, stolen_of, unbudgeted
from mwm.store import put
from mwm.trial import LEVELS

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

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
DASHES, MARKS = ("-", "--", ":"), "osD^vPX*"
THIN: dict[str, Any] = {"linewidth": 0.8, "linestyle": ":"}
"""How curves look: from the ninth setting on they are dashed. No two colours are one to the colour-blind (Okabe and
Ito, 2008), whose yellow, which nobody sees on white, is a grey here."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval (Student, 1908); one seed has none."""

    value: float
    low: float | None = None
    high: float | None = None


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


def _mean(numbers: Sequence[float], most: float = math.inf) -> Mean:
    """The mean of numbers between 0 and `most`, and its interval as far as it lies there."""
    if len(numbers) < 2:
        return Mean(fmean(numbers))
    from scipy.special import stdtrit

    mean, n = fmean(numbers), len(numbers)
    half = float(stdtrit(n - 1, 0.975)) * stdev(numbers) / math.sqrt(n)
    return Mean(mean, max(mean - half, 0.0), min(mean + half, most))


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


def draw(found: Sequence[Point], path: Path) -> None:
    """Draw query accuracy and -log10 p, against oracle calls and against the students' clean accuracy, into a PNG.

    A colour for each setting of the victim, a mark for each attack; bars are the 95 % intervals of the means. Too many
    settings to be told apart, as a search makes them, are points in the colour of their kind of scheme.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would be global, and keep every figure
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    schemes, attacks = _words(found)
    crowded = len(schemes) > len(COLOURS) * len(DASHES)
    if crowded:
        schemes = {victim: dict(victim)["scheme.kind"] for victim in schemes}
    looks = {name: _look(place) for place, name in enumerate(dict.fromkeys(schemes.values()))}
    marks: dict[Setting, Any] = {attack: {"marker": MARKS[place % len(MARKS)]} for place, attack in enumerate(attacks)}
    curves: dict[tuple[str, Setting], list[Point]] = {}
    for point in sorted(found, key=lambda point: point.calls):
        curves.setdefault((schemes[point.victim], point.attack), []).append(point)
    for (scheme, attack), curve in curves.items():
        _plot(panels, curve, {**looks[scheme], **marks[attack]}, crowded=crowded)
    _dress(panels)
    lines = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    lines += [Line2D([], [], label=name, color="k", linestyle="", **marks[one]) for one, name in attacks.items()]
    lines += [] if crowded else [Line2D([], [], label="clean accuracy of the victim", color="k", **THIN)]
    figure.legend(handles=lines, loc="outside right upper", frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    put(path, content.getvalue())


def _look(place: int) -> dict[str, Any]:
    around, place = divmod(place, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": DASHES[around]}


def _plot(panels: Any, curve: Sequence[Point], look: Mapping[str, Any], *, crowded: bool) -> None:
    """One curve into each of the 2 x 2 panels; in a crowd only its points."""
    for down, name in enumerate(("query_acc", "evidence")):
        means = [getattr(point, name) for point in curve]
        heights = [mean.value for mean in means]
        below = [0.0 if mean.low is None else mean.value - mean.low for mean in means]
        above = [0.0 if mean.high is None else mean.high - mean.value for mean in means]
        for across, places in enumerate(([one.calls for one in curve], [one.clean_acc.value for one in curve])):
            if crowded:
                panels[down, across].plot(places, heights, alpha=0.5, **{**look, "linestyle": ""})
                continue
            faint = (look["color"], 0.35)
            panels[down, across].errorbar(places, heights, [below, above], ecolor=faint, elinewidth=1, **look)
        if not crowded and curve[0].lost is not None:
            panels[down, 1].axvline(curve[0].clean_acc.value + curve[0].lost, color=look["color"], **THIN)


def _dress(panels: Any) -> None:
    """Scales, words, and the levels at which ownership is decided."""
    panels[1, 0].set(xscale="log", xlabel="oracle calls", ylabel=r"evidence: $-\log_{10}\,p$")
    panels[1, 1].set_xlabel("clean accuracy of the student")
    panels[0, 0].set(ylabel="query accuracy of the student", ylim=(-0.03, 1.03))
    for panel in panels.flat:
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
    for level in LEVELS.values():
        height = -math.log10(level)
        for panel in panels[1]:
            panel.axhline(height, color="k", **THIN)
        beside = (panels[1, 1].get_yaxis_transform(), "offset points")
        panels[1, 1].annotate(f"$p = 10^{{{-height:g}}}$", (1, height), (4, 0), *beside, va="center")
