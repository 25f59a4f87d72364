"""Names beside the points that they name, none over another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mwm.runner.reporting.figures.style import LETTER, LINE

Boxes = NDArray[np.float64]
"""Left, bottom, right and top of each of some rectangles on the canvas."""

DISTANCES = (5, 9, 14, 20, 28, 38)
"""Points between a point and its name: the nearest place that is free is taken."""

SIDES = ((1, 0), (-1, 0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7), (0, 1), (0, -1))

NEAR = 8
"""From this distance on a thin line leads to the point."""

CROSSED = 12
"""How many points further away a place may be for each line that a name does not cross there."""


MOST, GAP = 0.45, 0.2
"""The share of a panel that names at the ends of its lines may take, and the inches between the two."""


class Label(NamedTuple):
    """A text, and the place in the data of a panel that it names."""

    text: str
    place: tuple[float, float]


def place_labels(panel: Any, labels: Sequence[Label]) -> bool:
    """Write each text beside its point, within the panel, where it covers no other text and no mark, and few lines.

    Nothing is written if one of them finds no room; says whether they are. The limits of the axes must stand.
    """
    panel.figure.draw_without_rendering()
    taken, lines = _marks(panel), [*_lines(panel)]
    written: list[Any] = []
    for label in labels:
        places: list[Any] = []
        for distance, (across, up) in product(DISTANCES, SIDES):
            text = _write(panel, label, (across * distance, up * distance))
            box = _extent(text)
            text.remove()
            if _is_within(box, panel.bbox) and not _covers(box, taken):
                crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
                places.append((distance + CROSSED * crossed, len(places), across * distance, up * distance, box))
        if not places:
            for text in written:
                text.remove()
            return False
        *_, across, up, box = min(places)
        written.append(_write(panel, label, (across, up)))
        taken = np.vstack([taken, box.extents])
    return True


def label_ends(panel: Any, labels: Sequence[Label]) -> bool:
    """Write each text to the right of its point, one under another, for which a logarithmic axis becomes longer.

    Nothing is written if that took more than MOST of the panel, or if they are more than find room; says whether they
    are.
    """
    inches = panel.get_window_extent().transformed(panel.figure.dpi_scale_trans.inverted())
    share = (LETTER * max(len(label.text) for label in labels) + GAP) / inches.width
    if share > MOST or LINE * len(labels) > inches.height:
        return False
    low, high = panel.get_xlim()
    panel.set_xlim(low, low * (high / low) ** (1 / (1 - share)))
    panel.figure.draw_without_rendering()
    up = panel.transAxes.inverted().transform(panel.transData.transform([label.place for label in labels]))[:, 1]
    ordered = sorted(zip(up.tolist(), labels, strict=True), key=lambda one: one[0])
    for height, (_, label) in zip(_spread([own for own, _ in ordered], LINE / inches.height), ordered, strict=True):
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkA": 1, "shrinkB": 3}
        text = panel.annotate(
            label.text,
            label.place,
            (1 - share + 0.3 * GAP / inches.width, height),
            textcoords="axes fraction",
            arrowprops=line | {"relpos": (0, 0.5)},
            va="center",
        )
        text.set_in_layout(False)
    return True


def _spread(heights: Sequence[float], apart: float) -> list[float]:
    """Heights from low to high, moved so that none is nearer to the next than that, and all are within 0 and 1."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(height, apart / 2, *(low + apart for low in spread[-1:])))
    over = 1 - apart / 2
    for place in reversed(range(len(spread))):
        spread[place] = min(spread[place], over)
        over = spread[place] - apart
    return spread


def _marks(panel: Any) -> Boxes:
    """Where marks are drawn on the canvas."""
    found: list[Boxes] = [np.empty((0, 4))]
    for line in panel.lines:
        if line.get_marker() not in ("None", None, ""):
            half = (line.get_markersize() / 2 + 1) * panel.figure.dpi / 72
            middle = line.get_transform().transform(line.get_xydata())
            found.append(np.hstack([middle - half, middle + half]))
    return np.vstack(found)


def _covers(box: Any, taken: Boxes) -> bool:
    return bool(((taken[:, :2] < box.max) & (taken[:, 2:] > box.min)).all(1).any())


def _lines(panel: Any) -> Iterator[Any]:
    """Where lines and bars are drawn, as paths on the canvas."""
    for line in panel.lines:
        if line.get_linestyle() != "None":
            yield line.get_transform().transform_path(line.get_path())
    for bars in panel.collections:
        yield from map(bars.get_transform().transform_path, bars.get_paths())


def _is_within(box: Any, room: Any) -> bool:
    return bool(room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1)


def _write(panel: Any, label: Label, offset: tuple[float, float]) -> Any:
    across, up = offset
    sides: dict[str, Any] = {
        "ha": "left" if across > 0 else "right" if across < 0 else "center",
        "va": "bottom" if up > 0 else "top" if up < 0 else "center",
    }
    if across**2 + up**2 >= NEAR**2:
        sides["arrowprops"] = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2}
    text = panel.annotate(label.text, label.place, offset, textcoords="offset points", **sides)
    text.set_in_layout(False)
    return text


def _extent(text: Any) -> Any:
    """The place of the letters on the canvas, without the line to the point."""
    from matplotlib.text import Text

    text.update_positions(text.get_figure().canvas.get_renderer())
    return Text.get_window_extent(text)
