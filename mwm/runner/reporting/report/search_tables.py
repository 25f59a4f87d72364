"""What a search by Optuna has found, as tables for a person: its front, and what mattered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mwm.trials.names import column_heading, format_value

MOST_SHOWN = 20
"""So many trials of a front are shown; all are in search.csv."""

FEW = 30
"""From so many trials on importance is told without a warning."""

BETTER = {"maximize": "larger is better", "minimize": "smaller is better"}

SearchResults = Mapping[str, Any]
"""What search.json holds."""


def read_search_results(folder: Path) -> SearchResults:
    """What search.json of a sweep's folder holds; empty where there is none."""
    path = folder / "search.json"
    found: SearchResults = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def search_tables(search: SearchResults) -> Iterator[Group]:
    """The front of a search with its parameters, then the importance of each; nothing where no trial is done."""
    if search.get("front"):
        yield front_table(search)
        if any(search["importance"].values()):
            yield importance_table(search)


def front_table(search: SearchResults) -> Group:
    """A line for each trial on the front: the best in the first objective first."""
    trials = {trial["number"]: trial for trial in search["trials"]}
    shown, objectives = [trials[number] for number in search["front"]][:MOST_SHOWN], [*search["objectives"]]
    paths = [path for path in search["parameters"] if any(path in trial["parameters"] for trial in shown)]
    made = _table("trial", *objectives, *short_names(paths).values(), "file")
    for trial in shown:
        own = trial["parameters"]
        cells = [f"{trial['objectives'][name]:.4g}" for name in objectives]
        cells += [format_value(path, own[path]) if path in own else "" for path in paths]
        made.add_row(*map(Text, (str(trial["number"]), *cells, trial.get("file", ""))))
    return Group(made, *(Text(note, "italic") for note in _front_notes(search)))


def _front_notes(search: SearchResults) -> Iterator[str]:
    done, front = number_done(search), search["front"]
    which = "which no other one beats in all of" if len(search["objectives"]) > 1 else "the best in"
    sides = ", ".join(f"{name} ({BETTER[side]})" for name, side in search["objectives"].items())
    yield f"of {done} trials that are done, those {which} {sides}"
    if len(front) > MOST_SHOWN:
        yield f"and {len(front) - MOST_SHOWN} more on the front, in search.csv"
    yield from (f"no importance of parameters for {name}: {why}" for name, why in search["no_importance"].items())


def importance_table(search: SearchResults) -> Group:
    """The importance of each parameter for each objective, the largest first."""
    shares, paths = search["importance"], by_importance(search)
    made, short = _table("parameter", *shares), short_names(paths)
    for path in paths:
        made.add_row(*(Text(told) for told in (short[path], *(_share(own.get(path)) for own in shares.values()))))
    return Group(made, Text(importance_note(search), "italic"))


def importance_note(search: SearchResults) -> str:
    """What importance means, and when it means little."""
    few = f"; {done} trials are few for that" if (done := number_done(search)) < FEW else ""
    return f"importance: what a parameter by itself explains of the variance, of all that they explain (fANOVA){few}"


def by_importance(search: SearchResults) -> list[str]:
    """The parameters whose importance is known, the one that matters most to any objective first."""
    most: dict[str, float] = {}
    for shares in search["importance"].values():
        most |= {path: max(share, most.get(path, 0.0)) for path, share in shares.items()}
    return sorted(most, key=lambda path: -most[path])


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def number_done(search: SearchResults) -> int:
    """How many trials have all of their objectives."""
    return sum(trial["state"] == "done" for trial in search["trials"])


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Parameters by short headings, where those tell them apart; else as they stand in the file."""
    short = [column_heading(path) for path in paths]
    return {path: name if short.count(name) == 1 else path for path, name in zip(paths, short, strict=True)}


def _table(*headings: str) -> Table:
    made = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in headings:
        made.add_column(Text(heading.replace(" ", "\n")), justify="left" if heading == "parameter" else "right")
    return made
