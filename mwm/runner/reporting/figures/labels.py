"""Names beside the points that they name, none over another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

DISTANCES = (5, 9, 14, 20, 28, 38)
"""Points between a point and its name: the nearest place that is free is taken."""

SIDES = ((1, 0), (-1, 0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7), (0, 1), (0, -1))

NEAR = 10
"""From this distance on a thin line leads to the point."""

CROSSED = 12
"""How many points further away a place may be for each line that a name does not cross there."""


class Label(NamedTuple):
    """A text, and the place in the data of a panel that it names."""

    text: str
    place: tuple[float, float]


def place_labels(panel: Any, labels: Sequence[Label]) -> bool:
    """Write each text beside its point, within the panel, where it covers no other text and no mark, and few lines.

    Nothing is written if one of them finds no room; says whether they are. The limits of the axes must stand.
    """
    panel.figure.draw_without_rendering()
    taken, lines, written = [*_marks(panel)], [*_lines(panel)], []
    for label in labels:
        places = []
        for distance, (across, up) in product(DISTANCES, SIDES):
            text = _write(panel, label, (across * distance, up * distance))
            box = text_extent(text)
            text.remove()
            if _is_within(box, panel.bbox) and not any(box.overlaps(other) for other in taken):
                crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
                places.append((distance + CROSSED * crossed, len(places), across * distance, up * distance, box))
        if not places:
            for text in written:
                text.remove()
            return False
        *_, across, up, box = min(places)
        written.append(_write(panel, label, (across, up)))
        taken.append(box)
    return True


def _marks(panel: Any) -> Iterator[Any]:
    """Where marks are drawn, as boxes on the canvas."""
    from matplotlib.transforms import Bbox

    for line in panel.lines:
        if line.get_marker() not in ("None", None, ""):
            half = (line.get_markersize() / 2 + 1) * panel.figure.dpi / 72
            for across, up in line.get_transform().transform(line.get_xydata()):
                yield Bbox([[across - half, up - half], [across + half, up + half]])


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


def text_extent(text: Any) -> Any:
    """The place of the letters on the canvas, without the line to the point."""
    from matplotlib.text import Text

    text.update_positions(text.get_figure().canvas.get_renderer())
    return Text.get_window_extent(text)
