"""How pictures look: sizes, colours, marks, the levels at which a watermark is proven, and how they are written."""

from __future__ import annotations

import hashlib
import io
import math
import re
import textwrap
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from mwm.storage.filesystem import write_atomic
from mwm.trials.outcome import LEVELS

Named = TypeVar("Named", bound=Hashable)

FULL, COLUMN = 6.8, 3.3
"""Inches: the width of a page of a paper, and of one of its two columns. A web page shows the first one larger."""

TEXT, SMALL = 8.0, 7.0
"""Points of letters at these widths."""

LETTER, LINE = 0.058, 0.13
"""Inches that a small letter and a line of them take, about."""

APART = 0.02
"""Inches between the lines of a legend."""

LEGEND: dict[str, Any] = {"frameon": False, "fontsize": SMALL, "handlelength": 1.8, "columnspacing": 1.2}

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""No two are one to the colour-blind (Okabe and Ito, 2008). Their yellow, which is lost on white, is not among them."""

GREY = "#6B6B6B"
"""The colour of all that has no watermark."""

DASHES, MARKS = ("-", "--", ":", "-."), "osD^vPX*<>ph"

THIN: dict[str, Any] = {"linewidth": 0.8, "linestyle": ":"}

TICKS = (0, 1, 2, 4, 6, 8, 10, 20, 50, 100, 200, 500, 1000)

PROOF = r"$-\log_{10}\,p$"

RULES: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": SMALL,
    "axes.labelsize": TEXT,
    "axes.titlesize": TEXT,
    "axes.linewidth": 0.6,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "mwm",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
"""Whatever the settings of this machine are. Outlines of letters need no font where an SVG is read."""

MOST_SHAPES = 200
"""So many marks of a kind are shapes in an SVG or a PDF; more are pixels, which keeps the file small."""

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 180, "metadata": {"Software": None}},
    "svg": {"dpi": 180, "metadata": {"Date": None, "Creator": None}},
    "pdf": {"dpi": 300, "metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


TICK = 0.55
"""Inches between two numbers at an axis, at least."""

STEPS = ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,))
"""Where numbers stand within a decade: as many as fit."""


@contextmanager
def rules() -> Iterator[None]:
    """Draw or write by these rules, and by matplotlib's own where they say nothing."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RULES)
        yield


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches; pyplot would be global, and keep every figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, as the name ends, at once; the same figure gives the same bytes."""
    write_atomic(path, _written(figure, path.suffix[1:], facecolor="white"))


def _written(figure: Any, kind: str, **look: Any) -> bytes:
    content = io.BytesIO()
    with rules():
        figure.savefig(content, format=kind, **FORMATS[kind], **look)
    return content.getvalue()


def inline_svg(figure: Any, title: str) -> str:
    """A figure as an element of an HTML page, which says its title to those who do not see it.

    It is as wide as there is room. Black is the colour of the text around it, so that it reads in the dark, and the
    ground is that of the page. No two figures share an id.
    """
    text = _written(figure, "svg", transparent=True).decode()
    name = f"f{hashlib.sha256(f'{title}{text}'.encode()).hexdigest()[:8]}"
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg ") :], flags=re.DOTALL)
    text = re.sub(r'((?:\bid="|href="#|url\(#))', rf"\g<1>{name}-", text).replace("#000000", "currentColor")
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (width|height|version)="[^"]*"', "", opening)
    told = f'role="img" aria-labelledby="{name}" fill="currentColor"'
    return f'{opening} {told}>\n<title id="{name}">{escape(title)}</title>{rest.rstrip()}\n'


def plain(names: Mapping[Named, str]) -> dict[Named, str]:
    """Names in which a dollar is no beginning of a formula."""
    return {one: name.replace("$", r"\$") for one, name in names.items()}


def note(figure: Any, text: str) -> None:
    """A line or two under a figure, on how to read it."""
    figure.supxlabel(_filled(text, figure), fontsize=SMALL, x=0.01, ha="left")


def add_legend(figure: Any, entries: Sequence[Any], text: str, *, height: float) -> None:
    """A legend under panels that are so high, in as many columns as fit, and above it a line or two on how to read it.

    It takes the place of an earlier one, and the figure becomes as high as that needs.
    """
    for earlier in [*figure.legends]:
        earlier.remove()
    width = figure.get_figwidth()
    for one in entries:
        one.set_label(textwrap.fill(one.get_label(), int((width - 0.55) / LETTER)))
    across = max(1, int(width / (LETTER * max(len(one.get_label()) for one in entries) + 0.45)))
    told, lines = _filled(text, figure), -(-len(entries) // across)
    lines += sum(one.get_label().count("\n") for one in entries)
    figure.set_figheight(height + LINE * (lines + told.count("\n") + 2) + APART * lines)
    figure.legend(
        handles=entries, ncols=across, loc="outside lower left", title=told, alignment="left", **LEGEND
    ).get_title().set_fontsize(SMALL)


def entry(label: str, **look: Any) -> Any:
    """An entry of a legend: a mark or a line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **({"color": "k", "linestyle": ""} | look))


def _filled(text: str, figure: Any) -> str:
    return textwrap.fill(text, int(figure.get_figwidth() / LETTER))


def mark_for(place: int) -> str:
    """The mark of an attack by its place among all."""
    return MARKS[place % len(MARKS)]


def line_for(place: int) -> dict[str, Any]:
    """How the curve of a setting looks by its place among all: no two of 28 have both one colour and one dash."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}


def draw_grid(panel: Any) -> None:
    """Pale lines behind everything, on a white page as on a black one."""
    panel.grid(color="0.5", alpha=0.25, linewidth=0.6)
    panel.set_axisbelow(True)


def scale_proof(panel: Any, most: float, *, named: bool, ticks: Sequence[float] = TICKS) -> None:
    """Make an axis of -log10 p up to `most`, even up to 10 and logarithmic from there, with lines at the levels.

    At the low end it is decided whether a watermark is proven, and at the high one by how far.
    """
    panel.set_yscale("symlog", linthresh=10, linscale=2)
    panel.set_ylim(-0.4, max(1.25 * most, 7))
    seen = [tick for tick in ticks if tick <= max(1.25 * most, 7)]
    panel.set_yticks(seen, labels=[f"{tick:g}" for tick in seen], minor=False)
    panel.set_yticks([], minor=True)
    for level in LEVELS.values():
        height = -math.log10(level)
        panel.axhline(height, color="k", **THIN)
        if named:
            beside = (panel.get_yaxis_transform(), "offset points")
            panel.annotate(f"$p = 10^{{{-height:g}}}$", (1, height), (4, 0), *beside, va="center")


def number_logarithmic(panel: Any, numbers: Iterable[float]) -> None:
    """Numbers at a logarithmic axis as people write them, where points are: at 1, 3, 10, …, or closer, or wider."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = panel.get_xlim()
    decade = panel.bbox.width / panel.figure.dpi / math.log10(high / low)
    decades = [10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for steps in STEPS:
        if decade * min(math.log10(b / a) for a, b in pairwise([*steps, 10])) > TICK:
            break
    places = [step * decade for decade in decades for step in steps if low <= step * decade <= 1.5 * max(numbers)]
    panel.xaxis.set_major_locator(FixedLocator(places))
    panel.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}" if number >= 1 else f"{number:g}")
    panel.xaxis.set_minor_locator(NullLocator())


def fitted(text: str, font: Any, width: float) -> str:
    """A text that is cut where it would be wider than so many pixels."""
    if font.getlength(text) <= width:
        return text
    return next(cut for end in range(len(text), -1, -1) if font.getlength(cut := f"{text[:end]}…") <= width or not end)
