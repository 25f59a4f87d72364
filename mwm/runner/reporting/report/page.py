"""The report of one sweep, or of several that are compared, as one page of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mwm.runner.reporting.groups import group_by_configuration
from mwm.runner.reporting.headline import headline
from mwm.runner.reporting.report.source import SweepData
from mwm.verification.report.html import render


def html_report(sweeps: Sequence[SweepData]) -> str:
    """The whole report as a page that stands alone."""
    groups = group_by_configuration(compared_rows(sweeps))
    content = {"title": " and ".join(sweep.name for sweep in sweeps), "sweeps": sweeps, "headline": headline(groups)}
    return render(Path(__file__).with_name("page.html"), content)


def compared_rows(sweeps: Sequence[SweepData]) -> list[dict[str, object]]:
    """The rows of all sweeps; of several, each says as a field of its victim of which it is."""
    several = len(sweeps) > 1
    return [({"victim.sweep": sweep.name} if several else {}) | dict(row) for sweep in sweeps for row in sweep.rows]
