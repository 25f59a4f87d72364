"""The tables of a sweep, as text and cell by cell."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from mwm.runner.reporting.results import TrialResult
from mwm.runner.reporting.tables.layout import WIDTH
from mwm.runner.reporting.tables.terminal import tables


def shown(results: list[TrialResult]) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for made in tables(results):
        console.print(made)
    return console.export_text()


def sheet(results: list[TrialResult], number: int = 0) -> Table:
    made = [*tables(results)][number].renderables[0]
    assert isinstance(made, Table)
    return made


def cells(results: list[TrialResult], number: int = 0) -> list[list[str]]:
    """A table's cells, row by row."""
    made = sheet(results, number)
    return [
        list(row)
        for row in zip(*([str(cell).strip() for cell in column.cells] for column in made.columns), strict=True)
    ]


def headings(results: list[TrialResult], number: int = 0) -> list[str]:
    return [str(column.header).replace("\n", " ") for column in sheet(results, number).columns]


def caption(results: list[TrialResult], number: int = 2) -> str:
    return str([*tables(results)][number].renderables[1])
