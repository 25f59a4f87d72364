"""How pictures look: colours, marks, and the levels at which a watermark is proven."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from mwm.storage.filesystem import write_atomic
from mwm.trials.outcome import LEVELS

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""No two are one to the colour-blind (Okabe and Ito, 2008); their yellow, which is lost on white, is a grey here."""

DASHES, MARKS = ("-", "--", ":"), "osD^vPX*"

THIN: dict[str, Any] = {"linewidth": 0.8, "linestyle": ":"}

TICKS = (0, 1, 2, 4, 6, 8, 10, 20, 50, 100, 200, 500, 1000)

PROOF = r"$-\log_{10}\,p$"


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches; pyplot would be global, and keep every figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, at once."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomic(path, content.getvalue())


def mark_for(place: int) -> str:
    """The mark of an attack by its place among all."""
    return MARKS[place % len(MARKS)]


def draw_grid(panel: Any) -> None:
    """Pale lines behind everything."""
    panel.grid(color="0.9")
    panel.set_axisbelow(True)


def scale_proof(panel: Any, most: float, *, named: bool) -> None:
    """Make an axis of -log10 p up to `most`, even up to 10 and logarithmic from there, with lines at the levels.

    At the low end it is decided whether a watermark is proven, and at the high one by how far.
    """
    panel.set_yscale("symlog", linthresh=10, linscale=2)
    panel.set_ylim(-0.4, max(1.25 * most, 7))
    ticks = [tick for tick in TICKS if tick <= max(1.25 * most, 7)]
    panel.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks], minor=False)
    panel.set_yticks([], minor=True)
    for level in LEVELS.values():
        height = -math.log10(level)
        panel.axhline(height, color="k", **THIN)
        if named:
            beside = (panel.get_yaxis_transform(), "offset points")
            panel.annotate(f"$p = 10^{{{-height:g}}}$", (1, height), (4, 0), *beside, va="center")


def fitted(text: str, font: Any, width: float) -> str:
    """A text that is cut where it would be wider than so many pixels."""
    if font.getlength(text) <= width:
        return text
    return next(cut for end in range(len(text), -1, -1) if font.getlength(cut := f"{text[:end]}…") <= width or not end)
