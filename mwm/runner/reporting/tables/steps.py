"""What each step of a sequence of attacks left, as a table for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from rich.console import Group
from rich.text import Text

from mwm.runner.reporting.groups.configurations import Groups, Members, victims_of
from mwm.runner.reporting.groups.measures import present
from mwm.runner.reporting.groups.names import attack_names, victim_names
from mwm.runner.reporting.tables.layout import Column, figure, table

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
        Column("clean accuracy", [Text(figure(one.left, "clean_acc")) for one in found]),
        Column("query accuracy", [Text(figure(one.left, "query_acc")) for one in found]),
        Column("calls", [_count(one.left, "oracle_calls") for one in found]),
    ]
    return table(columns, [NOTE]) if found else None


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
    return Text(f" {fmean(found):,.0f}" if found else " –")
