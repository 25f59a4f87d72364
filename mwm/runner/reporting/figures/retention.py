"""The picture of retention: what is left of a watermark, by what was spent and by how good the student is."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from mwm.runner.reporting import retention
from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.labels import Label, label_ends, place_labels
from mwm.runner.reporting.groups.configurations import Configuration, Groups
from mwm.runner.reporting.groups.names import curve_names, victim_names
from mwm.runner.reporting.retention import RetentionPoint

HEIGHT = 1.9
"""Inches: how high a panel is."""

APART, FURTHEST = 0.012, 0.12
"""How far settings stand apart by calls, one from the next and all together, as shares of the axis."""

AXES = {"calls": "oracle calls", "clean_acc": "clean accuracy of the student"}
MEASURES = {"neg_log10_p": f"proof, {style.PROOF}", "query_acc": "query accuracy"}

EXPLAINED = "means over seeds; bars: 95 % intervals"
ASIDE = "settings that spent the same stand side by side"
VICTIMS = "ticks at the bottom: clean accuracy of the victims"
CROWDED = "means over seeds, in the colour of their kind of scheme"


@dataclass(frozen=True)
class _Curve:
    """The points of one attack on one setting by calls, how they look, and how far aside by calls they are drawn."""

    points: Sequence[RetentionPoint]
    look: Mapping[str, Any]
    aside: float = 0.0

    def places(self, axis: str) -> list[float | None]:
        """Where the points lie on an axis."""
        if axis == "calls":
            return [None if point.calls is None else point.calls * math.exp(self.aside) for point in self.points]
        return [point.clean_acc.value for point in self.points]


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw the proof and the query accuracy, against oracle calls and against the students' clean accuracy.

    A colour for each setting of the victim, a mark for each attack; bars are the 95 % intervals of the means. An axis
    on which all points are one is not drawn, nor a measure that no point has; None if no axis is left. Too many
    settings to be told apart, as a search makes them, are points in the colour of their kind of scheme.
    """
    found = retention.points(groups)
    axes = [axis for axis in AXES if len(_values(found, axis)) > 1]
    measures = [name for name in MEASURES if any(getattr(point, name) is not None for point in found)]
    if not axes:
        return None
    settings = style.plain(victim_names(point.victim for point in found))
    crowded = len(settings) > len(style.COLOURS) * len(style.DASHES)
    if crowded:
        settings = {victim: dict(victim)["scheme.kind"] for victim in settings}
    attacks = style.plain(curve_names([*dict.fromkeys(point.attack for point in found)]))
    looks, marks = setting_looks(settings), {one: style.mark_for(place) for place, one in enumerate(attacks)}
    height = HEIGHT * len(measures) + 0.3
    made = style.new_figure(width, height)
    panels = made.subplots(len(measures), len(axes), sharex="col", sharey="row", squeeze=False)
    for curve in _curves(found, settings, looks=looks, marks=marks):
        for down, name in enumerate(measures):
            for across, axis in enumerate(axes):
                _draw(panels[down, across], curve, axis=axis, name=name, crowded=crowded)
    _decorate(panels, found, axes=axes, measures=measures)
    notes = [EXPLAINED, *([ASIDE] if "calls" in axes else []), *([VICTIMS] if "clean_acc" in axes else [])]
    told = CROWDED if crowded else "; ".join(notes)
    entries = [style.entry(name, marker=marks[one]) for one, name in attacks.items()]
    style.add_legend(made, entries, told, height=height)
    write = label_ends if axes[0] == "calls" else place_labels
    if crowded or not write(panels[0, 0], _labels(found, settings, axis=axes[0], name=measures[0])):
        lines = [style.entry(name, **look) for name, look in looks.items()]
        style.add_legend(made, [*lines, *entries], told, height=height)
    if axes[0] == "calls":
        style.number_logarithmic(panels[-1, 0], _values(found, "calls"))
    return made


def _values(found: Sequence[RetentionPoint], axis: str) -> set[float]:
    return {place for place in _Curve(found, {}).places(axis) if place is not None}


def setting_looks(settings: Mapping[Configuration, str]) -> dict[str, dict[str, Any]]:
    """How each setting looks; what has no watermark is grey."""
    kinds = {name: dict(victim)["scheme.kind"] for victim, name in settings.items()}
    marked, bare = count(), count(step=len(style.COLOURS))
    return {
        name: style.line_for(next(bare)) | {"color": style.GREY} if kind == "none" else style.line_for(next(marked))
        for name, kind in kinds.items()
    }


def _curves(
    found: Sequence[RetentionPoint],
    settings: Mapping[Configuration, str],
    *,
    looks: Mapping[str, Mapping[str, Any]],
    marks: Mapping[Configuration, str],
) -> list[_Curve]:
    """The curves, those of a setting beside those of the last one."""
    together: dict[tuple[str, Configuration], list[RetentionPoint]] = {}
    for point in sorted(found, key=lambda point: point.calls or 0.0):
        together.setdefault((settings[point.victim], point.curve.attack), []).append(point)
    calls = _values(found, "calls") or {1.0}
    span = math.log(max(calls) / min(calls))
    step = span * min(APART, FURTHEST / len(looks))
    aside = {name: step * (place - (len(looks) - 1) / 2) for place, name in enumerate(looks)}
    return [
        _Curve(points, {**looks[name], "marker": marks[attack]}, aside[name])
        for (name, attack), points in together.items()
    ]


def _draw(panel: Any, curve: _Curve, *, axis: str, name: str, crowded: bool) -> None:
    """One curve into one panel; in a crowd only its points."""
    told = zip(curve.places(axis), (getattr(point, name) for point in curve.points), strict=True)
    both = [(place, mean) for place, mean in told if place is not None and mean is not None]
    if not both:  # no exact test, or no oracle
        return
    places, means = zip(*both, strict=True)
    heights = [mean.value for mean in means]
    if crowded:
        pixels = len(places) > style.MOST_SHAPES
        panel.plot(places, heights, alpha=0.5, rasterized=pixels, **{**curve.look, "linestyle": ""})
        return
    below = [0.0 if mean.low is None else mean.value - mean.low for mean in means]
    above = [0.0 if mean.high is None else mean.high - mean.value for mean in means]
    faint = {"ecolor": (curve.look["color"], 0.35), "elinewidth": 0.8}
    panel.errorbar(places, heights, [below, above], **faint, **curve.look)
    drop = curve.points[0].accuracy_drop
    if axis == "clean_acc" and drop is not None:
        victim = curve.points[0].clean_acc.value + drop
        panel.plot(victim, 0, "|", color=curve.look["color"], markersize=9, transform=panel.get_xaxis_transform())


def _decorate(panels: Any, found: Sequence[RetentionPoint], *, axes: Sequence[str], measures: Sequence[str]) -> None:
    """Scales, words, and the levels at which ownership is decided."""
    for panel in panels.flat:
        style.draw_grid(panel)
    for row, name in zip(panels, measures, strict=True):
        row[0].set_ylabel(MEASURES[name])
        means = [mean for point in found if (mean := getattr(point, name)) is not None]
        most = max(mean.high or mean.value for mean in means)
        if name == "query_acc":
            row[0].set_ylim(-0.03 * max(most, 0.1), 1.05 * max(most, 0.1))
        for panel in row if name == "neg_log10_p" else ():
            style.scale_proof(panel, most, named=panel is row[-1])
    for across, axis in enumerate(axes):
        width = panels[-1, across].figure.get_figwidth() / len(axes)
        panels[-1, across].set_xlabel(textwrap.fill(AXES[axis], int(width / 2 / style.LETTER)))
        if axis == "calls":
            panels[-1, across].set_xscale("log")
        else:
            panels[-1, across].locator_params("x", nbins=int(width / style.TICK))


def _labels(
    found: Sequence[RetentionPoint], settings: Mapping[Configuration, str], *, axis: str, name: str
) -> list[Label]:
    """The name of each setting at its last point, of those that show most."""
    drawn = [
        (settings[point.victim], (place, mean.value))
        for point in found
        for place in _Curve([point], {}).places(axis)
        if place is not None and (mean := getattr(point, name)) is not None
    ]
    return [Label(*one) for one in dict(sorted(drawn, key=lambda one: one[1])).items()]
