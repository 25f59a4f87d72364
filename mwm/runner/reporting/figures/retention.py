"""The picture of retention: what is left of a watermark, by what was spent and by how good the student is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mwm.runner.reporting import retention
from mwm.runner.reporting.figures import style
from mwm.runner.reporting.groups import Configuration, Groups, configuration_names, victim_names
from mwm.runner.reporting.retention import RetentionPoint


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw -log10 p and query accuracy, against oracle calls and against the students' clean accuracy.

    A colour for each setting of the victim, a mark for each attack; bars are the 95 % intervals of the means. Too many
    settings to be told apart, as a search makes them, are points in the colour of their kind of scheme.
    """
    from matplotlib.lines import Line2D

    found = retention.points(groups)
    if not found:
        return None
    made = style.new_figure(width, 0.7 * width)
    panels = made.subplots(2, 2, sharex="col", sharey="row")
    schemes = victim_names(point.victim for point in found)
    attacks = configuration_names([*dict.fromkeys(point.attack for point in found)], "kind")
    crowded = len(schemes) > len(style.COLOURS) * len(style.DASHES)
    if crowded:
        schemes = {victim: dict(victim)["scheme.kind"] for victim in schemes}
    looks = {name: style.line_for(place) for place, name in enumerate(dict.fromkeys(schemes.values()))}
    marks: dict[Configuration, Any] = {one: {"marker": style.mark_for(place)} for place, one in enumerate(attacks)}
    curves: dict[tuple[str, Configuration], list[RetentionPoint]] = {}
    for point in sorted(found, key=lambda point: point.calls or 0.0):
        curves.setdefault((schemes[point.victim], point.attack), []).append(point)
    for (scheme, attack), curve in curves.items():
        _plot(panels, curve, {**looks[scheme], **marks[attack]}, crowded=crowded)
    _decorate(panels, max((mean.high or mean.value for point in found if (mean := point.neg_log10_p)), default=0.0))
    lines = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    lines += [Line2D([], [], label=name, color="k", linestyle="", **marks[one]) for one, name in attacks.items()]
    lines += [] if crowded else [Line2D([], [], label="clean accuracy of the victim", color="k", **style.THIN)]
    made.legend(handles=lines, loc="outside right upper", frameon=False)
    return made


def _plot(panels: Any, curve: Sequence[RetentionPoint], look: Mapping[str, Any], *, crowded: bool) -> None:
    """One curve into each of the 2 x 2 panels; in a crowd only its points."""
    for down, name in enumerate(("neg_log10_p", "query_acc")):
        means = [mean for point in curve if (mean := getattr(point, name)) is not None]
        if len(means) < len(curve):  # no exact test, no p-value
            continue
        heights = [mean.value for mean in means]
        below = [0.0 if mean.low is None else mean.value - mean.low for mean in means]
        above = [0.0 if mean.high is None else mean.high - mean.value for mean in means]
        by_calls = [one.calls for one in curve if one.calls is not None]
        for across, places in enumerate((by_calls, [one.clean_acc.value for one in curve])):
            if len(places) < len(curve):  # an attack without an oracle has no place by calls
                continue
            if crowded:
                panels[down, across].plot(places, heights, alpha=0.5, **{**look, "linestyle": ""})
                continue
            faint = (look["color"], 0.35)
            panels[down, across].errorbar(places, heights, [below, above], ecolor=faint, elinewidth=1, **look)
        if not crowded and curve[0].accuracy_drop is not None:
            panels[down, 1].axvline(
                curve[0].clean_acc.value + curve[0].accuracy_drop, color=look["color"], **style.THIN
            )


def _decorate(panels: Any, most: float) -> None:
    """Scales, words, and the levels at which ownership is decided; -log10 p goes up to `most`."""
    from matplotlib.ticker import LogLocator, NullFormatter

    panels[0, 0].set_ylabel(f"{style.PROOF} of the student")
    panels[1, 0].set(xscale="log", xlabel="oracle calls", ylabel="query accuracy of the student", ylim=(-0.03, 1.03))
    panels[1, 0].xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    panels[1, 0].xaxis.set_major_formatter(lambda calls, _: f"{calls:,.0f}")
    panels[1, 0].xaxis.set_minor_formatter(NullFormatter())
    panels[1, 1].set_xlabel("clean accuracy of the student")
    for panel in panels.flat:
        style.draw_grid(panel)
    for panel in panels[0]:
        style.scale_proof(panel, most, named=panel is panels[0, 1])
