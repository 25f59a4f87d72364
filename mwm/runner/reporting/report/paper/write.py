"""The pictures and tables of a sweep as a paper takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mwm.runner.reporting.csv_files import write_csv
from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.catalogue import drawn, save_pictures
from mwm.runner.reporting.groups.configurations import Groups
from mwm.runner.reporting.groups.names import attacks_of
from mwm.runner.reporting.report.paper.attackers import threat_models, worst_case_by_threat, worst_case_of_all
from mwm.runner.reporting.report.paper.latex import latex
from mwm.runner.reporting.report.paper.tables import cost, detection, results
from mwm.storage.filesystem import write_atomic

TABLES = {"results": results, "cost": cost}

OF_ATTACKS = {
    "detection": detection,
    "worst_case": worst_case_of_all,
    "worst_case_by_threat": worst_case_by_threat,
    "threats": threat_models,
}
"""The tables by the names of their files."""


def write_paper(groups: Groups, figures: Mapping[str, Any], folder: Path) -> None:
    r"""Write figures/ and tables/ below a folder; `figures` are those as wide as a page.

    figures/NAME.svg and .pdf are as wide as a page, NAME-column.pdf as one of its two columns. tables/NAME.tex is one
    float, for \input into a document with \usepackage{booktabs}; NAME.csv has its numbers as they are.
    """
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    save_pictures(figures, folder / "figures", ".svg", ".pdf")
    save_pictures(drawn(groups, style.COLUMN), folder / "figures", "-column.pdf")
    tables = TABLES | (OF_ATTACKS if attacks_of(groups) else {})
    for name, made in tables.items():
        caption, parts, lines = made(groups)
        write_atomic(folder / "tables" / f"{name}.tex", latex(name, caption, parts))
        write_csv(lines, (), folder / "tables" / f"{name}.csv")
