"""The picture of the front: what a watermark proves after the worst attack, by the clean accuracy that it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from mwm.runner.reporting import front
from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.labels import Label, place_labels
from mwm.runner.reporting.front import MOST_LOST, FrontPoint
from mwm.runner.reporting.groups.configurations import Groups

MOST_NAMED = 12
"""So many settings of the front are named; all are in the CSV."""

STAIRS = {"color": "k", "linewidth": 1.0, "alpha": 0.6}

RING: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": "k", "linestyle": ""}

EXPLAINED = (
    f"full: the worst attack on a setting, of those whose students lose at most {MOST_LOST} points; "
    "bars: least to largest seed; faint: other attacks"
)


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw the proof that is left over the accuracy that is lost.

    A colour for each kind of scheme, a mark for each attack: full for the worst of a setting, with bars from the least
    to the largest seed, and faint for all others. The settings on the front are named where they are, or numbered if
    there is no room. None without a control, and where all settings cost the same.
    """
    found = front.points(groups)
    if len({one.place[0] for one in found}) < 2:
        return None
    settings, attacks = map(style.plain, front.names(found))
    marks = {attack: style.mark_for(place) for place, attack in enumerate(attacks)}
    best = sorted((one for one in found if one.on_front), key=lambda one: one.place)
    height = max(0.52 * width, 2.4)
    made = style.new_figure(width, height)
    panel = made.subplots()
    looks = _looks(found)
    for (kind, look), (attack, mark) in product(looks.items(), marks.items()):
        alike = [one for one in found if (one.scheme, one.attack) == (kind, attack)]
        _draw_points(panel, alike, {**look, "marker": mark})
    _draw_front(panel, best)
    for one in found:
        if one.published and one.worst:
            panel.plot(*one.place, markersize=12, **RING)
    _decorate(panel, found)
    entries = _legend(looks, {name: marks[one] for one, name in attacks.items()}, found)
    named = [(settings[one.point.victim], one.place) for one in _some(best)]
    style.add_legend(made, entries, EXPLAINED, height=height)
    if not place_labels(panel, [Label(*one) for one in named]):
        numbered = [Label(str(number), place) for number, (_, place) in enumerate(named, 1)]
        keys = [style.entry(f"{number}: {name}") for number, (name, _) in enumerate(named, 1)]
        style.add_legend(made, [*entries, *keys], EXPLAINED, height=height)
        place_labels(panel, numbered)
    return made


def _some(best: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The points that are named: all, or some from end to end."""
    last, count = len(best) - 1, min(len(best), MOST_NAMED)
    return [best[round(place * last / max(count - 1, 1))] for place in range(count)]


def _looks(found: Sequence[FrontPoint]) -> dict[str, dict[str, Any]]:
    """How the marks of each kind of scheme look; from the eighth on they have a black edge."""
    kinds = dict.fromkeys(one.scheme for one in found if one.scheme != "none")
    looks: dict[str, dict[str, Any]] = {}
    for number, kind in enumerate(kinds):
        around, place = divmod(number, len(style.COLOURS))
        looks[kind] = {"color": style.COLOURS[place]} | ({"markeredgecolor": "k"} if around else {})
    return looks | ({"none": {"color": style.GREY}} if any(one.scheme == "none" for one in found) else {})


def _draw_points(panel: Any, found: Sequence[FrontPoint], look: Mapping[str, Any]) -> None:
    """Points that look alike: faint, or full and with bars where they are the worst attacks on their settings."""
    for worst in (False, True):
        own = [one for one in found if one.worst is worst]
        if not own:
            continue
        across, up = zip(*(one.place for one in own), strict=True)
        if not worst:
            panel.plot(across, up, alpha=0.3, linestyle="", rasterized=len(own) > style.MOST_SHAPES, **look)
            continue
        lost, proofs = [one.clean_drop for one in own], [one.neg_log10_p for one in own]
        sideways = [[100 * (drop.value - drop.low) for drop in lost], [100 * (drop.high - drop.value) for drop in lost]]
        upwards = [[one.value - one.low for one in proofs], [one.high - one.value for one in proofs]]
        faint = {"ecolor": (look["color"], 0.35), "elinewidth": 0.8}
        panel.errorbar(across, up, upwards, sideways, linestyle="", markersize=6, **faint, **look)


def _draw_front(panel: Any, best: Sequence[FrontPoint]) -> None:
    """Stairs, since what a point proves can be had at any higher price."""
    if best:
        panel.step(*zip(*(one.place for one in best), strict=True), where="post", zorder=1, **STAIRS)


def _decorate(panel: Any, found: Sequence[FrontPoint]) -> None:
    style.draw_grid(panel)
    panel.set(xlabel="points of clean accuracy lost against the control", ylabel=f"proof, {style.PROOF}")
    style.scale_proof(panel, max(one.neg_log10_p.high for one in found), named=True)


def _legend(looks: Mapping[str, Mapping[str, Any]], marks: Mapping[str, str], found: Sequence[FrontPoint]) -> list[Any]:
    """What colours, marks, rings and lines mean."""
    entries = [style.entry(kind, marker="s", **look) for kind, look in looks.items()]
    entries += [style.entry(name, marker=mark) for name, mark in marks.items()]
    rings = dict.fromkeys(one.published for one in found if one.published and one.worst)
    entries += [style.entry(name, markersize=8, **RING) for name in rings]
    return [*entries, style.entry("the front", linestyle="-", **STAIRS)]
