"""The pictures and tables of a sweep as a paper takes them."""

from __future__ import annotations

from pathlib import Path

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.catalogue import drawn
from mwm.runner.reporting.groups import Groups


def write_paper(groups: Groups, folder: Path) -> None:
    """Write figures/NAME.svg and .pdf, and figures/NAME-column.pdf for one of two columns, below a folder."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for width, ends in ((style.FULL, (".svg", ".pdf")), (style.COLUMN, ("-column.pdf",))):
        for name, figure in drawn(groups, width).items():
            for end in ends:
                style.save(figure, folder / "figures" / f"{name}{end}")
