"""How tables of the terminal are laid out: columns under headings, side by side as far as there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, varying_fields, victims_of
from mwm.runner.reporting.groups.measures import present, proven
from mwm.runner.reporting.groups.names import attacks_of
from mwm.runner.reporting.groups.threats import threats
from mwm.stats.intervals import mean_and_sd
from mwm.trials.names import column_heading, format_fraction, format_value
from mwm.trials.outcome import STATUSES

WIDTH = 120
"""Characters of a line: what does not fit side by side becomes several tables."""

QUERIES = "scheme.queries."
"""Where the fields of a combined scheme's queries stand."""

MOST_ACROSS = 12
"""More attacks than these stand under one another, with settings beside one another, if there are fewer of those."""


GIVEN = "what each attacker is given: the table of threat models (attacks there without their strength)"


@dataclass(frozen=True)
class Column:
    """A column of a table: a cell for each line, under a heading; words stand on the left, figures on the right."""

    heading: str
    cells: Sequence[Text]
    words: bool = False

    @property
    def width(self) -> int:
        """How wide it is, with what parts it from the one before; each word of a heading has a line of its own."""
        lines = [line for cell in self.cells for line in cell.plain.split("\n")]
        return 1 + max(map(len, [*self.heading.split(" "), *lines]))


def is_turned(groups: Groups) -> bool:
    """Whether attacks are lines, and settings columns: there are many attacks, and fewer settings."""
    count = len(attacks_of(groups))
    return count > MOST_ACROSS and count > len(victims_of(groups))


def side_by_side(room: float, together: Sequence[Sequence[Column]]) -> list[list[Column]]:
    """Columns in portions of at most so many characters; those that belong together stay so, if they fit at all."""
    portions: list[list[Column]] = [[]]
    for own in together:
        if width_of([*portions[-1], *own]) > room >= width_of(own) and portions[-1]:
            portions.append([])
        for column in own:
            if width_of([*portions[-1], column]) > room and portions[-1]:
                portions.append([])
            portions[-1].append(column)
    return portions


def width_of(columns: Sequence[Column]) -> int:
    """Characters of a line of so many columns."""
    return sum(column.width for column in columns)


def setting_columns(victims: Sequence[Configuration]) -> list[Column]:
    """The scheme of each setting, and the fields in which they differ."""
    settings = [_one_key(victim) for victim in victims]
    found = [Column("scheme", [Text(own["scheme.kind"]) for own in settings], words=True)]
    for path in varying_fields(tuple(own.items()) for own in settings):
        if path != "scheme.kind":
            shown = [Text(format_value(path, own[path]) if path in own else "") for own in settings]
            found.append(Column(column_heading(path), shown))
    return found


def _one_key(victim: Configuration) -> dict[str, Any]:
    """A setting in which the queries of a combined scheme stand where those of others do: in one column."""
    return {path if path == QUERIES + "kind" else path.replace(QUERIES, "scheme."): value for path, value in victim}


def by_setting(victims: Sequence[Configuration], columns: Sequence[Column], notes: Sequence[str | Text]) -> Group:
    """A table with a line per setting of the victim: the fields in which they differ, then the columns."""
    return table([*setting_columns(victims), *columns], notes)


def table(columns: Sequence[Column], notes: Sequence[str | Text], *, ends: Sequence[int] = ()) -> Group:
    """A table and what it shows, on lines that may be longer than it is wide; a rule stands below the lines `ends`."""
    made = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for column in columns:
        side: Literal["left", "right"] = "left" if column.words else "right"
        made.add_column(Text(column.heading.replace(" ", "\n")), justify=side, overflow="fold")
    for place, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        made.add_row(*cells, end_section=place in ends)
    return Group(made, *(note if isinstance(note, Text) else Text(note, "italic") for note in notes))


def proof(members: Members, *, ends: bool = True) -> Text:
    """-log10 p and query accuracy, as means, and what did not end well; bold where every seed is proven."""
    logs, matches = present(members, "log10_p"), present(members, "query_acc")
    left = pair(-fmean(logs) if logs else None, fmean(matches)) if matches else ""
    return Text(left + (how_ended(members) if ends else ""), "bold" if proven(members) else "")


def pair(proven_by: float | None, query_acc: float) -> str:
    """-log10 p, a dash where no test is exact, and query accuracy."""
    # The space in front keeps figures further apart than the fields before them.
    told = "-" if proven_by is None else f"{round(proven_by, 1) + 0.0:.1f}"
    return f" {told}/{format_fraction(query_acc, 2)}"


def figure(members: Members, name: str) -> str:
    """A mean share and its standard deviation."""
    found = mean_and_sd(present(members, name))
    mean = "" if found["mean"] is None else f" {format_fraction(found['mean'])}"
    return mean if found["sd"] is None else f"{mean}±{format_fraction(found['sd'])}"


def how_ended(members: Members) -> str:
    """What did not end well, on a line of its own so that columns stay narrow; on the first if nothing ended well."""
    counts = Counter(row["status"] for row in members)
    ends = [f"{counts[status]} {status}" for status in STATUSES if status != "done" and counts[status]]
    return ("\n" if counts["done"] else "") + f"({', '.join(ends)})" if ends else ""


def pointer(groups: Groups) -> list[str]:
    """Where it is told what the attackers of a table are given, if it is told."""
    return [GIVEN] if threats(groups) else []


def mean_of(counts: Sequence[int], mean: str) -> str:
    """Over how many seeds: `counts` are the numbers that occur, in order."""
    if counts[-1] == 1:
        return "1 seed"
    return f"{mean} of {counts[0]}-{counts[-1]} seeds" if len(counts) > 1 else f"{mean} of {counts[0]} seeds"
