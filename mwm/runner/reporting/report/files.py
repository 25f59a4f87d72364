"""The report of a sweep, or of several that are compared, as a file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from mwm.runner.reporting.groups import group_by_configuration
from mwm.runner.reporting.report.comparing import compared_rows
from mwm.runner.reporting.report.page import html_report
from mwm.runner.reporting.report.paper import write_paper
from mwm.runner.reporting.report.selection import telling
from mwm.runner.reporting.report.source import SweepData, read_sweep_data
from mwm.storage.filesystem import write_atomic
from mwm.storage.redaction import redacted_excerpt

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write report.html into the folder of a sweep, from the files that lie there; its path.

    Raises ValueError, in one line, whatever fails but the disk: no sweep is to end for its report.
    """
    try:
        sweep = read_sweep_data(folder)
        groups = group_by_configuration(sweep.rows)
        page = html_report([sweep], groups, telling(groups))
    except Exception as error:
        raise ValueError(f"{REPORT}: {redacted_excerpt(f'{type(error).__name__}: {error}')}") from error
    write_atomic(folder / REPORT, page)
    return folder / REPORT


def write_report_for_paper(folder: Path, sweeps: Sequence[SweepData]) -> Path:
    """Write the report on one sweep or several into a folder, with figures/ and tables/ for a paper; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = group_by_configuration(compared_rows(sweeps))
    shown = telling(groups)
    with ProcessPoolExecutor(1) as beside:  # both take equally long
        paper = beside.submit(write_paper, shown, folder)
        write_atomic(folder / REPORT, html_report(sweeps, groups, shown))
        paper.result()
    return folder / REPORT
