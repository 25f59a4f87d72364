"""The report of one sweep, or of several that are compared, as one page of HTML."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.groups.configurations import Groups, victims_of
from mwm.runner.reporting.headline import headline
from mwm.runner.reporting.report import search_figures, words
from mwm.runner.reporting.report.pictures import query_pictures
from mwm.runner.reporting.report.search_tables import search_tables
from mwm.runner.reporting.report.source import SweepData
from mwm.runner.reporting.report.tables import cost_table, front_table, read_table, result_tables
from mwm.verification.report.html import render

TITLES = {
    "heatmap": ("What is left, by setting and attack", "the proof and the retention of each setting after each attack"),
    "matrix": ("The matrix of attacks", "the proof after each attack on each setting, and the accuracy that is lost"),
    "front": ("The front: what is left, by what it costs", "the proof after each attack, by the accuracy that is lost"),
    "retention": ("What is left, by what was spent", "the proof by oracle calls and by the accuracy of students"),
    "strength": (
        "What is left, by how strong attacks are",
        "proof and accuracies by the strength of each kind of attack",
    ),
}
"""The headings of figures, and what they say to those who do not see them."""

SEARCH_CAPTIONS = ("On the front of the search", "Importance of parameters")


def html_report(sweeps: Sequence[SweepData], groups: Groups, *, shown: Groups, figures: Mapping[str, Any]) -> str:
    """The whole report as a page that stands alone.

    `groups` are the rows of all sweeps, `shown` those whose settings tables and `figures` show.
    """
    settings = len(victims_of(groups))
    content = {
        "names": [sweep.name for sweep in sweeps],
        "questions": [(sweep.name, sweep.question) for sweep in sweeps if sweep.question],
        "headline": headline(groups),
        "missing": list(words.missing(groups)),
        "left_out": settings - len(victims_of(shown)),
        "settings": settings,
        "results": list(result_tables(groups, shown)),
        "figures": list(_figures(shown, figures)),
        "searches": [_search(sweep) for sweep in sweeps if sweep.search.get("front")],
        "cost": cost_table(groups),
        "pictures": list(query_pictures(groups, ChainMap(*(dict(sweep.pictures) for sweep in sweeps)))),
        "provenance": [(sweep.name, words.provenance(sweep), words.sweep_file(sweep)) for sweep in sweeps],
        "limits": list(words.limits(groups)),
    }
    return render(Path(__file__).with_name("page.html"), content)


def _figures(groups: Groups, figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures in the order in which they are read, the front with its points by name."""
    for name, figure in figures.items():
        title, told = TITLES[name]
        yield {
            "title": title,
            "svg": style.inline_svg(figure, f"{title}: {told}"),
            "table": front_table(groups) if name == "front" else None,
        }


def _search(sweep: SweepData) -> dict[str, Any]:
    """What a search by Optuna has found."""
    tables = [read_table(*made) for made in zip(SEARCH_CAPTIONS, search_tables(sweep.search), strict=False)]
    with style.rules():
        made = search_figures.front(sweep.search), search_figures.importance(sweep.search)
    named = zip(SEARCH_CAPTIONS, made, strict=True)
    figures = [style.inline_svg(figure, f"{title}: {sweep.name}") for title, figure in named if figure is not None]
    return {"name": sweep.name, "tables": tables, "figures": figures}
