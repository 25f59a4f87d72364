"""All pictures of a sweep: drawn from its rows, and written as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mwm.runner.reporting.figures import front, heatmap, retention, style
from mwm.runner.reporting.groups import Groups, group_by_configuration
from mwm.runner.reporting.results import TrialResult, result_rows

PICTURES = {"heatmap": heatmap.figure, "front": front.figure, "retention": retention.figure}
"""By the names of their files, in the order in which they are read."""


def draw_pictures(folder: Path, results: Sequence[TrialResult]) -> None:
    """Draw what a sweep shows into PNG files of its folder, each where there is something to be seen.

    heatmap.png shows the proof that is left by setting and attack; front.png by the accuracy that the watermarks cost,
    which takes a control; retention.png by what attackers spent and by how good their students are.
    """
    figures = drawn(group_by_configuration(result_rows(results)))
    for name in PICTURES:
        path = folder / f"{name}.png"
        if name in figures:
            style.save(figures[name], path)
        else:
            path.unlink(missing_ok=True)


def drawn(groups: Groups, width: float = style.FULL) -> dict[str, Any]:
    """The matplotlib figures of a sweep by name, so many inches wide or as wide as they need; some may be missing."""
    with style.rules():
        made = {name: figure(groups, width) for name, figure in PICTURES.items()}
        figures = {name: figure for name, figure in made.items() if figure is not None}
        for figure in figures.values():
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # or each format would find the same places again
    return figures
