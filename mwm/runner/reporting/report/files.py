"""The report of a sweep, or of several that are compared, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mwm.runner.reporting.figures.catalogue import drawn, save_pictures
from mwm.runner.reporting.groups.configurations import group_by_configuration
from mwm.runner.reporting.report.comparing import compared_rows
from mwm.runner.reporting.report.page import html_report
from mwm.runner.reporting.report.paper.write import write_paper
from mwm.runner.reporting.report.selection import telling
from mwm.runner.reporting.report.source import SweepData, read_sweep_data
from mwm.storage.filesystem import write_atomic
from mwm.storage.redaction import redacted_excerpt

REPORT = "report.html"


def write_report(folder: Path, sweeps: Sequence[SweepData]) -> Path:
    """Write report.html on one sweep or several into a folder, its pictures as PNG, and what a paper takes; its path.

    That is figures/ and tables/.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = group_by_configuration(compared_rows(sweeps))
    shown = telling(groups)
    figures = drawn(shown)
    save_pictures(figures, folder, ".png")
    write_atomic(folder / REPORT, html_report(sweeps, groups, shown=shown, figures=figures))
    write_paper(shown, figures, folder)
    return folder / REPORT


def write_sweep_report(folder: Path) -> Path:
    """Write the report on a sweep into its folder, from the files that lie there; its path.

    Raises ValueError, in one line, whatever fails but the disk: no sweep is to end for its report.
    """
    try:
        return write_report(folder, [read_sweep_data(folder)])
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{REPORT}: {redacted_excerpt(f'{type(error).__name__}: {error}')}") from error
