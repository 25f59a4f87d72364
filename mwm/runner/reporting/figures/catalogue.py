"""All pictures of a sweep: drawn from its rows, and written as files."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from mwm.runner.reporting.figures import front, heatmap, matrix, retention, strength, style
from mwm.runner.reporting.groups.configurations import Groups

PICTURES = {
    "heatmap": heatmap.figure,
    "matrix": matrix.figure,
    "front": front.figure,
    "retention": retention.figure,
    "strength": strength.figure,
}
"""By the names of their files, in the order in which they are read."""


def save_pictures(figures: Mapping[str, Any], folder: Path, *ends: str) -> None:
    """Write figures into a folder, in a file NAME and each of the `ends`; what is not drawn any more is removed."""
    for name, end in product(PICTURES, ends):
        path = folder / f"{name}{end}"
        if name in figures:
            style.save(figures[name], path)
        else:
            path.unlink(missing_ok=True)


def drawn(groups: Groups, width: float = style.FULL) -> dict[str, Any]:
    """The matplotlib figures of a sweep by name, so many inches wide or as wide as they need.

    Each is there where it has something to show: `heatmap` the proof that is left by setting and attack, or `matrix` by
    attack and setting where attacks are many; `front` by the accuracy that the watermarks cost, which takes a control;
    `retention` by what attackers spent and by how good their students are; `strength` by how strong attacks of a kind
    are.
    """
    with style.rules():
        made = {name: figure(groups, width) for name, figure in PICTURES.items()}
        figures = {name: figure for name, figure in made.items() if figure is not None}
        for figure in figures.values():
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # or each format would find the same places again
    return figures
