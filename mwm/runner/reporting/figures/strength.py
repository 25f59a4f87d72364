"""The picture of strength: what is left of a watermark, and of the network, the stronger attacks of a kind are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mwm.runner.reporting import retention
from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.retention import setting_looks
from mwm.runner.reporting.groups.configurations import Configuration, Groups
from mwm.runner.reporting.groups.names import curve_names, victim_names
from mwm.runner.reporting.retention import RetentionPoint
from mwm.trials.names import column_heading

HEIGHT = 1.6
"""Inches: how high a row of panels is."""

FARTHEST = 30
"""An axis on which the largest strength is so many times the least, or more, is logarithmic."""

FEW = (0, 3, 6, 10, 100, 1000)
"""Numbers at the axis of the proof, for which small panels have room."""

MEASURES = {
    "neg_log10_p": f"proof, {style.PROOF}",
    "clean_acc": "clean accuracy",
    "query_acc": "query accuracy",
}
"""What is drawn, on a page all three, in a column of a page the first two."""

EXPLAINED = "means over seeds; bars: 95 % intervals, as far as they fit; attacks without a bound are not drawn"
CROWDED = "means over seeds, in the colour of their kind of scheme; attacks without a bound are not drawn"

Key = tuple[Configuration, Configuration]
"""A setting, and an attack apart from its strength."""


@dataclass(frozen=True)
class _Kind:
    """The attacks of a kind that differ in strength: the field that says it, and the points of each curve."""

    title: str
    field: str
    curves: Mapping[Key, Sequence[RetentionPoint]]

    @property
    def strengths(self) -> list[float]:
        """All numbers on its axis, the least first."""
        return sorted({_place(point) for points in self.curves.values() for point in points})


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw proof, clean accuracy and query accuracy against strength, in a row of panels for each kind of attack.

    A colour for each setting of the victim, a mark for each attack of a kind; bars are the 95 % intervals of the means.
    None where no two attacks differ in their strength alone.
    """
    every = retention.points(groups)
    kinds = _kinds(every)
    found = [point for kind in kinds for points in kind.curves.values() for point in points]
    measures = [name for name in MEASURES if any(getattr(point, name) is not None for point in found)]
    measures = measures if width >= style.FULL else measures[:2]
    if not kinds:
        return None
    settings = style.plain(victim_names(point.victim for point in found))
    crowded = len(settings) > len(style.COLOURS) * len(style.DASHES)
    if crowded:
        settings = {victim: dict(victim)["scheme.kind"] for victim in settings}
    looks = setting_looks(settings)
    attacks = style.plain(curve_names([*dict.fromkeys(point.attack for point in every)]))
    marks = _marks(kinds)
    height = HEIGHT * len(kinds) + 0.3
    made = style.new_figure(width, height)
    panels = made.subplots(len(kinds), len(measures), squeeze=False)
    for kind, row in zip(kinds, panels, strict=True):
        for (victim, attack), points in kind.curves.items():
            look = {**looks[settings[victim]], "marker": marks[attack]} | ({"linestyle": ""} if crowded else {})
            for panel, name in zip(row, measures, strict=True):
                _draw(panel, points, look, name=name)
        _decorate(row, kind, measures)
    entries = [style.entry(name, **look) for name, look in looks.items()]
    entries += [style.entry(attacks[one], marker=mark) for one, mark in marks.items()]
    style.add_legend(made, entries, CROWDED if crowded else EXPLAINED, height=height)
    return made


def _kinds(found: Sequence[RetentionPoint]) -> list[_Kind]:
    """The kinds of attacks, or of sequences, of which two differ in their strength alone."""
    together: dict[tuple[str, str], dict[Key, list[RetentionPoint]]] = {}
    for point in found:
        if point.curve.number is not None:
            kind = together.setdefault((point.curve.kind, point.curve.field), {})
            kind.setdefault((point.victim, point.curve.attack), []).append(point)
    told = []
    for (title, field), every in together.items():
        curves = {key: sorted(points, key=_place) for key, points in every.items() if len(points) > 1}
        told += [_Kind(title, field, curves)] if curves else []
    return told


def _place(point: RetentionPoint) -> float:
    assert point.curve.number is not None, "attacks without a number are not drawn"
    return point.curve.number


def _marks(kinds: Sequence[_Kind]) -> dict[Configuration, str]:
    """A mark for each attack, told apart from the others of its kind."""
    own = [dict.fromkeys(attack for _, attack in kind.curves) for kind in kinds]
    return {attack: style.mark_for(place) for attacks in own for place, attack in enumerate(attacks)}


def _draw(panel: Any, points: Sequence[RetentionPoint], look: Mapping[str, Any], *, name: str) -> None:
    told = [(_place(point), getattr(point, name)) for point in points]
    both = [(place, mean) for place, mean in told if mean is not None]
    if not both:  # no exact test
        return
    places, means = zip(*both, strict=True)
    below = [0.0 if mean.low is None else mean.value - mean.low for mean in means]
    above = [0.0 if mean.high is None else mean.high - mean.value for mean in means]
    faint = {"ecolor": (look["color"], 0.35), "elinewidth": 0.8}
    panel.errorbar(places, [mean.value for mean in means], [below, above], **faint, **look)


def _decorate(row: Sequence[Any], kind: _Kind, measures: Sequence[str]) -> None:
    """Scales and words of the panels of a kind."""
    numbers, points = kind.strengths, [point for own in kind.curves.values() for point in own]
    for panel, name in zip(row, measures, strict=True):
        style.draw_grid(panel)
        panel.set(xlabel=column_heading(kind.field), ylabel=MEASURES[name])
        means = [mean for point in points if (mean := getattr(point, name)) is not None]
        if name == "neg_log10_p" and means:
            style.scale_proof(panel, max(mean.high or mean.value for mean in means), named=False, ticks=FEW)
        elif means:
            low, high = min(mean.value for mean in means), max(mean.value for mean in means)
            around = 0.02 + 0.1 * (high - low)
            panel.set_ylim(max(low - around, -0.03), min(high + around, 1.03))
        if numbers[0] > 0 and numbers[-1] / numbers[0] >= FARTHEST:
            panel.set_xscale("log")
            style.number_logarithmic(panel, numbers)
        else:
            panel.locator_params("x", nbins=4)
    row[0].set_title(kind.title, loc="left")
