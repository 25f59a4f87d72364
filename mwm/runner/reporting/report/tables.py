"""The tables of a report, as a page takes them: those of the terminal, the front, and what everything cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean
from typing import Any

from rich.console import Group
from rich.table import Table

from mwm.runner.reporting import front
from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, victims_of
from mwm.runner.reporting.groups.measures import present
from mwm.runner.reporting.groups.names import attack_names, attacks_of, configuration_names, victim_names
from mwm.runner.reporting.tables.attackers import (
    detection_table,
    threat_table,
    worst_by_threat_table,
    worst_case_table,
)
from mwm.runner.reporting.tables.retention import rejecting_table, retention_table
from mwm.runner.reporting.tables.steps import step_table
from mwm.runner.reporting.tables.terminal import network_table
from mwm.trials.names import duration


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What stands in a cell; `strong` is told without colour, as bold."""

    text: str
    strong: bool = False
    number: bool = True


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table of a page: the first cell of a row says what the row is of."""

    caption: str
    headings: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def result_tables(groups: Groups, shown: Groups) -> Iterator[PageTable]:
    """The terminal's tables, as wide as they are: settings and networks of `shown`, and all detections."""
    (made,) = retention_table(shown, width=inf)
    yield read_table("What each setting costs, and what is left of it after each attack", made)
    if attacks_of(groups):
        lost = "What is left after the worst attack, by the points of clean accuracy that its students may lose"
        yield read_table(lost, worst_case_table(shown, width=inf))
        yield from _if_made("What is left after the worst attack of each threat model", worst_by_threat_table(shown))
        yield from _if_made("Threat models: what attackers are given", threat_table(groups))
        yield from _if_made("What is left where an attacker's network turns queries away", rejecting_table(shown))
        yield from _if_made("What each step of a sequence left", step_table(shown))
        yield read_table("How many students are detected", detection_table(groups))
    yield read_table("The networks, by the digests of their trainings", network_table(shown))


def _if_made(caption: str, made: Group | None) -> Iterator[PageTable]:
    if made is not None:
        yield read_table(caption, made)


def read_table(caption: str, made: Group) -> PageTable:
    """A table that was made for the terminal."""
    table, *notes = made.renderables
    assert isinstance(table, Table), "a table stands above its notes"
    sides = [column.justify == "right" for column in table.columns]
    cells = [[*column.cells] for column in table.columns]
    rows = [[_cell(cell, number) for cell, number in zip(row, sides, strict=True)] for row in zip(*cells, strict=True)]
    headings = [
        Cell(text=" ".join(str(column.header).split()), number=number)
        for column, number in zip(table.columns, sides, strict=True)
    ]
    return PageTable(caption=caption, headings=headings, rows=rows, notes=[str(note).strip() for note in notes])


def _cell(content: Any, number: bool) -> Cell:
    return Cell(text=str(content).strip(), strong=getattr(content, "style", "") == "bold", number=number)


def front_table(groups: Groups) -> PageTable | None:
    """The settings on the front, the cheapest first; None where there is no front."""
    found = front.points(groups)
    on_front = sorted((one for one in found if one.on_front), key=lambda one: one.place)
    if not on_front:
        return None
    victims = victim_names(one.point.victim for one in found)
    attacks = configuration_names([*dict.fromkeys(one.attack for one in found)], "kind")
    rows = [
        [
            Cell(text=victims[one.point.victim], number=False),
            Cell(text=f"{one.place[0] + 0.0:.1f}"),
            Cell(text=f"{one.place[1] + 0.0:.1f}", strong=one.point.detected == one.point.students),
            Cell(text=attacks[one.attack], number=False),
        ]
        for one in on_front
    ]
    return PageTable(
        caption="On the front: no other watermark costs no more and keeps more",
        headings=_headings("setting", "*points lost", "*−log10 p", "worst attack"),
        rows=rows,
    )


def _headings(*names: str) -> list[Cell]:
    """Headings; those of numbers begin with a star."""
    return [Cell(text=name.removeprefix("*"), number=name.startswith("*")) for name in names]


def cost_table(groups: Groups) -> PageTable:
    """What was spent for each kind of scheme: on its victims, and on each attack on them."""
    attacks = attack_names(groups)
    kinds = dict.fromkeys(_kind(victim) for victim in victims_of(groups))
    parts = [(kind, attack) for kind in kinds for attack in (None, *attacks)]
    spent: dict[tuple[str, Configuration | None], dict[str, Any]] = {part: {} for part in parts}
    for (victim, attack), members in groups.items():
        spent[_kind(victim), attack] |= {row["digest"]: row for row in members if row["status"] == "done"}
    rows = [
        [
            Cell(text=kind, number=False),
            Cell(text=attacks[attack] if attack else "none: the victim", number=False),
            *_costs([*spent[kind, attack].values()]),
        ]
        for kind, attack in parts
        if spent[kind, attack]
    ]
    every = [row for members in spent.values() for row in members.values()]
    total = duration(sum(present(every, "seconds")))
    devices = ", ".join(dict.fromkeys(row["device"] for row in every if row.get("device")))
    note = f"means over trials, and of memory the most; all trials together took {total} on {devices or 'a device'}"
    headings = _headings("scheme", "attack", "*trials", "*oracle calls", "*seconds", "*peak MiB")
    return PageTable(caption="What it cost", headings=headings, rows=rows, notes=[note])


def _kind(victim: Configuration) -> str:
    kind: str = dict(victim)["scheme.kind"]
    return kind


def _costs(members: Members) -> list[Cell]:
    measures: list[tuple[str, Callable[[list[float]], float], str]] = [
        ("oracle_calls", fmean, ",.0f"),
        ("seconds", fmean, ",.1f"),
        ("peak_mib", max, ",.0f"),
    ]
    told = [format(of(found), form) if (found := present(members, name)) else "–" for name, of, form in measures]
    return [Cell(text=text) for text in (f"{len(members):,}", *told)]
