"""What each step of a sequence of attacks left, as a table for a person."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any, NamedTuple

from rich.console import Group
from rich.text import Text

from mwm.runner.reporting.groups.configurations import Groups, Members, victims_of
from mwm.runner.reporting.groups.measures import present
from mwm.runner.reporting.groups.names import attack_names, victim_names
from mwm.runner.reporting.tables.layout import WIDTH, Column, figure, table, width_of

MOST_STEPS = 40
"""Lines of steps that the terminal shows."""

NAME, LEAST = 44, 20
"""Letters of a line of an attack's name, and of a setting's name in any case."""

NOTE = "means over seeds; calls: images that were answered up to the end of a step"


class _Step(NamedTuple):
    """A step of an attack on a setting, and what it left for each seed."""

    setting: str
    attack: str
    name: str
    left: Members


def step_table(groups: Groups) -> Group | None:
    """Clean and query accuracy and oracle calls at the end of each step; None where no attack has steps."""
    found = [*_steps(groups)]
    columns = [
        Column("setting", [Text(one.setting) for one in found], words=True),
        Column("attack", [Text(f"  {one.attack}") for one in found], words=True),
        Column("step", [Text(f"  {one.name}") for one in found], words=True),
        Column("last epoch", [_count(one.left, "epoch") for one in found]),
        *_figures([one.left for one in found]),
    ]
    return table(columns, [NOTE]) if found else None


def step_summary(groups: Groups) -> Group | None:
    """The same for the terminal: a line for each step and setting below the attack's name; of many the first alone."""
    alike: dict[str, list[_Step]] = {}
    for one in _steps(groups):
        alike.setdefault(one.attack, []).append(one)
    found = [one for own in alike.values() for one in own]
    names, settings, left = list[Text](), list[str](), list[Members]()
    for attack, own in groupby(found[:MOST_STEPS], lambda one: one.attack):
        steps = [*own]
        names += [Text("\n".join(textwrap.wrap(attack, NAME)), "italic"), *(Text(f"  {one.name}") for one in steps)]
        settings += ["", *(one.setting for one in steps)]
        left += [[], *(one.left for one in steps)]
    first, figures = Column("attack, step", names, words=True), _figures(left)
    room = max(WIDTH - width_of([first, *figures]) - 3, LEAST)
    cells = [Text("\n".join(f"  {line}" for line in textwrap.wrap(setting, room))) for setting in settings]
    more = [f"and {len(found) - MOST_STEPS} more, in the report"] if len(found) > MOST_STEPS else []
    return table([first, Column("setting", cells, words=True), *figures], [NOTE, *more]) if found else None


def _figures(left: Sequence[Members]) -> list[Column]:
    """What steps left, and the calls until their ends."""
    return [
        Column("clean accuracy", [Text(figure(own, "clean_acc")) for own in left]),
        Column("query accuracy", [Text(figure(own, "query_acc")) for own in left]),
        Column("calls", [_count(own, "oracle_calls") for own in left]),
    ]


def _steps(groups: Groups) -> Iterator[_Step]:
    victims, attacks = victim_names(victims_of(groups)), attack_names(groups)
    for (victim, attack), members in groups.items():
        told = [json.loads(row["steps"]) for row in members if row.get("steps")]
        if attack is None or not told:
            continue
        for place in range(max(map(len, told))):
            left: list[Mapping[str, Any]] = [steps[place] for steps in told if place < len(steps)]
            yield _Step(victims[victim], attacks[attack], f"{place + 1} {left[0]['kind']}", left)


def _count(members: Members, name: str) -> Text:
    found = present(members, name)
    return Text(f" {fmean(found):,.0f}" if found else " –" * bool(members))
