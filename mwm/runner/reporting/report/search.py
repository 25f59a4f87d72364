"""What a search by Optuna has found, as a section of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.report import search_figures
from mwm.runner.reporting.report.search_tables import search_tables
from mwm.runner.reporting.report.source import SweepData
from mwm.runner.reporting.report.tables import read_table

CAPTIONS = ("On the front of the search", "Importance of parameters")


def searches(sweeps: Sequence[SweepData]) -> Iterator[dict[str, Any]]:
    """The tables and figures of each sweep that was a search by Optuna."""
    for sweep in sweeps:
        tables = [read_table(*made) for made in zip(CAPTIONS, search_tables(sweep.search), strict=False)]
        if tables:
            yield {"name": sweep.name, "tables": tables, "figures": list(_figures(sweep))}


def _figures(sweep: SweepData) -> Iterator[str]:
    with style.rules():
        made = [search_figures.front(sweep.search), search_figures.importance(sweep.search)]
    for title, figure in zip(CAPTIONS, made, strict=True):
        if figure is not None:
            yield style.inline_svg(figure, f"{title}: {sweep.name}")
