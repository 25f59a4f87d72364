"""Pictures: retention curves, and a grid of queries."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mwm.runner.reporting.groups import (
    Configuration,
    group_by_configuration,
)
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.retention import RetentionPoint, _words, points
from mwm.storage.filesystem import write_atomic
from mwm.trials.outcome import LEVELS
from mwm.watermarks.queries import QuerySet

TILE, GAP, LABEL = 96, 8, 26
"""Pixels of the query picture: least width of an image, space around it, height of its label."""


def draw_retention(folder: Path, results: Sequence[TrialResult]) -> None:
    """Draw the retention of a sweep's watermarks into retention.png, where something was attacked."""
    if found := points(group_by_configuration(result_rows(results))):
        draw(found, folder / "retention.png")


def draw_query_grid(queries: QuerySet, perturbed: Tensor, path: Path) -> None:
    """Draw all queries with "true -> assigned" labels into a PNG, and beneath each what the ascent made of it.

    `perturbed`: the images after the ascent (uint8 n c h w), shown if any differs.
    """
    from PIL import Image, ImageDraw

    assert perturbed.shape == queries.images.shape, f"{tuple(perturbed.shape)} for {tuple(queries.images.shape)}"
    moved = bool((queries.images != perturbed).any())
    height, width = queries.images.shape[2:]
    scale = -(-TILE // width)
    across, high = min(len(queries), 10), scale * height
    step = (scale * width + GAP, LABEL + (high + GAP) * (1 + moved))
    sheet = Image.new("RGB", (across * step[0] + GAP, -(-len(queries) // across) * step[1] + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (truth, assigned) in enumerate(zip(queries.truth.tolist(), queries.labels.tolist(), strict=True)):
        left, top = GAP + i % across * step[0], GAP + i // across * step[1]
        pen.text((left + scale * width / 2, top), f"{truth} -> {assigned}", "black", anchor="ma", font_size=18)
        for down, image in enumerate([queries.images[i], perturbed[i]][: 1 + moved]):
            colour = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous().numpy())
            shown = colour.resize((scale * width, high), Image.Resampling.NEAREST)
            sheet.paste(shown, (left, top + LABEL + down * (high + GAP)))
    content = io.BytesIO()
    sheet.save(content, "PNG")
    write_atomic(path, content.getvalue())


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")

DASHES, MARKS = ("-", "--", ":"), "osD^vPX*"

THIN: dict[str, Any] = {"linewidth": 0.8, "linestyle": ":"}
"""How curves look: from the ninth setting on they are dashed. No two colours are one to the colour-blind (Okabe and
Ito, 2008), whose yellow, which nobody sees on white, is a grey here."""


def draw(found: Sequence[RetentionPoint], path: Path) -> None:
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
    looks = {name: _style(place) for place, name in enumerate(dict.fromkeys(schemes.values()))}
    marks: dict[Configuration, Any] = {
        attack: {"marker": MARKS[place % len(MARKS)]} for place, attack in enumerate(attacks)
    }
    curves: dict[tuple[str, Configuration], list[RetentionPoint]] = {}
    for point in sorted(found, key=lambda point: point.calls or 0.0):
        curves.setdefault((schemes[point.victim], point.attack), []).append(point)
    for (scheme, attack), curve in curves.items():
        _plot(panels, curve, {**looks[scheme], **marks[attack]}, crowded=crowded)
    _decorate(panels)
    lines = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    lines += [Line2D([], [], label=name, color="k", linestyle="", **marks[one]) for one, name in attacks.items()]
    lines += [] if crowded else [Line2D([], [], label="clean accuracy of the victim", color="k", **THIN)]
    figure.legend(handles=lines, loc="outside right upper", frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomic(path, content.getvalue())


def _style(place: int) -> dict[str, Any]:
    around, place = divmod(place, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": DASHES[around]}


def _plot(panels: Any, curve: Sequence[RetentionPoint], look: Mapping[str, Any], *, crowded: bool) -> None:
    """One curve into each of the 2 x 2 panels; in a crowd only its points."""
    for down, name in enumerate(("query_acc", "neg_log10_p")):
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
            panels[down, 1].axvline(curve[0].clean_acc.value + curve[0].accuracy_drop, color=look["color"], **THIN)


def _decorate(panels: Any) -> None:
    """Scales, words, and the levels at which ownership is decided."""
    panels[1, 0].set(xscale="log", xlabel="oracle calls", ylabel=r"$-\log_{10}\,p$")
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
