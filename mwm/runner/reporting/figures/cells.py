"""Cells of a picture of a table: from pale to dark, each with its number."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mwm.runner.reporting.figures import style

CELL = 0.36
"""Inches: the least width of a cell."""

HEADING, MOST_LINES = 24, 3
"""Letters of a line of a heading that stands upright, and lines of a name."""

DARK = "#111111"
"""What is drawn on pale cells. It is not black, which follows the page: a cell stays as it is in the dark."""

Cells = Sequence[Sequence[float | None]]
"""Numbers row by row from the top; None where nothing was measured. A row without any is left free."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the numbers of a panel are written and coloured: evenly up to `even`, and logarithmically from there.

    The darkest is `most`, or the largest number where that is None.
    """

    text: Callable[[float], str]
    colours: str = "Blues"
    even: float = 10.0
    most: float | None = None


def draw_cells(panel: Any, cells: Cells, look: Look, *, edges: Sequence[float] | None = None) -> None:
    """Draw rows of cells, the first one on top; `edges` are where rows begin and end, one apart unless given."""
    edges = edges or range(len(cells) + 1)
    count = max(map(len, cells))
    numbers = [[float("nan") if cell is None else cell for cell in row] or [float("nan")] * count for row in cells]
    norm = _norm(look, [cell for row in cells for cell in row if cell is not None])
    grid = np.ma.masked_invalid(numbers)
    lines = {"edgecolor": "face", "linewidth": 0.2}
    image = panel.pcolormesh(range(count + 1), edges, grid, cmap=look.colours, norm=norm, **lines)
    panel.set_ylim(edges[-1], edges[0])  # the first on top; to turn an axis that panels share would turn it back
    for place, row in enumerate(cells):
        middle = (edges[place] + edges[place + 1]) / 2
        for across, cell in enumerate(row):
            shade = image.cmap(norm(cell)) if cell is not None else None
            ink = "k" if shade is None else DARK if luminance(shade) > 0.19 else "white"
            told = "–" if cell is None else look.text(cell)
            panel.text(across + 0.5, middle, told, color=ink, ha="center", va="center")


def _norm(look: Look, known: Sequence[float]) -> Any:
    from matplotlib.colors import Normalize, SymLogNorm

    if look.most is not None:
        return Normalize(0, look.most)
    return SymLogNorm(look.even, linscale=2, vmin=0, vmax=max(*known, look.even, look.even))


def luminance(shade: Sequence[float]) -> float:
    """How bright a colour is (WCAG 2): at .19 dark and white letters are equally plain."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in shade[:3]]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def frame_cells(panel: Any, proofs: Sequence[Sequence[bool]], *, edges: Sequence[float] | None = None) -> None:
    """A frame in each cell that is proven, and bold figures; rows as they were drawn."""
    from matplotlib.patches import Rectangle

    edges = edges or range(len(proofs) + 1)
    texts = iter(panel.texts)
    for down, row in enumerate(proofs):
        high = edges[down + 1] - edges[down]
        for across, is_proven in enumerate(row):
            text = next(texts)
            if is_proven:
                text.set_fontweight("bold")
                corner, ink = (across + 0.06, edges[down] + 0.08 * high), text.get_color()
                panel.add_patch(Rectangle(corner, 0.88, 0.84 * high, fill=False, edgecolor=ink, linewidth=0.7))


def wrapped(text: str, letters: int) -> str:
    """A name on a few lines of so many letters."""
    return "\n".join(textwrap.wrap(text, max(letters, 8), max_lines=MOST_LINES, placeholder=" …"))


def headings(names: Sequence[str], width: float) -> tuple[list[str], bool, float]:
    """Headings of columns so many inches wide, whether they must stand upright, and how many inches high they are."""
    letters = int(width / style.LETTER)
    upright = any(len(word) > letters for name in names for word in name.split())
    told = [wrapped(name, HEADING if upright else letters) for name in names]
    if upright:
        return told, True, style.LETTER * max(len(line) for one in told for line in one.split("\n"))
    return told, False, style.LINE * max(one.count("\n") + 1 for one in told)
