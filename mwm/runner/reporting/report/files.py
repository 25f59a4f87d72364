"""The report of a sweep as a file, with figures and tables for a paper beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mwm.runner.reporting.groups import group_by_configuration
from mwm.runner.reporting.paper import write_paper
from mwm.runner.reporting.report.comparing import compared_rows
from mwm.runner.reporting.report.page import html_report
from mwm.runner.reporting.report.source import SweepData, read_sweep_data
from mwm.storage.filesystem import write_atomic

REPORT = "report.html"


def write_report(folder: Path, sweeps: Sequence[SweepData] = ()) -> Path:
    """Write report.html into a folder, `figures/` and `tables/` beside it; the path of the page.

    Without `sweeps` it is the report of the sweep whose files lie in the folder. Raises ValueError, in one line, where
    nothing has ended, and OSError.
    """
    shown = sweeps or [read_sweep_data(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    groups = group_by_configuration(compared_rows(shown))
    write_atomic(folder / REPORT, html_report(shown, groups))
    write_paper(groups, folder)
    return folder / REPORT
