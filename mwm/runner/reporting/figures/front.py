"""The picture of the front: what a watermark proves after the worst attack, by the clean accuracy that it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mwm.runner.reporting import front
from mwm.runner.reporting.figures import style
from mwm.runner.reporting.front import MOST_LOST, FrontPoint
from mwm.runner.reporting.groups import Groups

MOST_NAMED = 15
"""Settings of the front that are named in the picture; all are in the CSV."""

STAIRS = {"color": "k", "linewidth": 1.0, "alpha": 0.6}

RING: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "linestyle": ""}

EXPLAINED = (
    f"full: the worst attack on a setting, of those whose students lose at most {MOST_LOST} points; "
    "bars: least to largest seed; faint: other attacks"
)


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw the proof that is left over the accuracy that is lost; None without a control, or with one point alone.

    A colour for each kind of scheme, a mark for each attack: full for the worst of a setting, with bars from the least
    to the largest seed, and faint for all others.
    """
    found = front.points(groups)
    if len({one.place[0] for one in found}) < 2:
        return None
    made = style.new_figure(width, 0.6 * width)
    panel = made.subplots()
    kinds = dict.fromkeys(one.scheme for one in found if one.scheme != "none")
    colours = {kind: style.COLOURS[place % len(style.COLOURS)] for place, kind in enumerate(kinds)} | {
        "none": style.GREY
    }
    victims, attacks = front.names(found)
    marks = {attack: style.mark_for(place) for place, attack in enumerate(attacks)}
    style.draw_grid(panel)
    for one in found:
        _draw_point(panel, one, {"color": colours[one.scheme], "marker": marks[one.attack], "linestyle": ""})
    best = sorted((one for one in found if one.on_front), key=lambda one: one.place)
    _draw_front(panel, best)
    _draw_published(panel, [one for one in found if one.published and one.worst])
    panel.set_title(EXPLAINED, fontsize=9, loc="left")
    panel.set(xlabel="points of clean accuracy lost against the control", ylabel=f"{style.PROOF} of the students")
    style.scale_proof(panel, max(one.neg_log10_p.high for one in found), named=True)
    handles = _legend(colours, {attacks[one]: mark for one, mark in marks.items()}, found)
    handles += [
        _entry(victims[one.point.victim], marker=f"${number}$", markeredgewidth=0)
        for number, one in enumerate(best[:MOST_NAMED], 1)
    ]
    made.legend(handles=handles, loc="outside right upper", frameon=False)
    return made


def _draw_point(panel: Any, one: FrontPoint, look: Mapping[str, Any]) -> None:
    across, up = one.place
    if not one.worst:
        panel.plot(across, up, alpha=0.3, markersize=5, **look)
        return
    drop, proof = one.clean_drop, one.neg_log10_p
    sideways = [[100 * (drop.value - drop.low)], [100 * (drop.high - drop.value)]]
    upwards = [[proof.value - proof.low], [proof.high - proof.value]]
    panel.errorbar(across, up, upwards, sideways, ecolor=(look["color"], 0.35), elinewidth=1, markersize=8, **look)


def _draw_front(panel: Any, front: Sequence[FrontPoint]) -> None:
    """Stairs, since what a point proves can be had at any higher price, and a number at each point."""
    if front:
        panel.step(*zip(*(one.place for one in front), strict=True), where="post", zorder=1, **STAIRS)
    for number, one in enumerate(front, 1):
        panel.annotate(str(number), one.place, (-7, 6), textcoords="offset points", ha="right", fontsize=9)


def _draw_published(panel: Any, found: Sequence[FrontPoint]) -> None:
    """A ring around each, and its name beside it if there is only one."""
    for one in found:
        panel.plot(*one.place, markersize=17, markeredgecolor="k", **RING)
        if len(found) == 1:
            name = one.published.partition(" (")[0]
            panel.annotate(name, one.place, (12, -3), textcoords="offset points", fontsize=9, va="top")


def _legend(colours: Mapping[str, str], marks: Mapping[str, str], found: Sequence[FrontPoint]) -> list[Any]:
    """What colours, marks, rings and lines mean."""
    from matplotlib.patches import Patch

    occurring = {one.scheme for one in found}
    entries: list[Any] = [Patch(color=colour, label=kind) for kind, colour in colours.items() if kind in occurring]
    entries += [_entry(name, marker=mark) for name, mark in marks.items()]
    entries += [_entry(name, markersize=11, **RING) for name in dict.fromkeys(one.published for one in found) if name]
    return [*entries, _entry("the front", linestyle="-", **STAIRS)]


def _entry(label: str, **look: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **({"color": "k", "linestyle": ""} | look))
