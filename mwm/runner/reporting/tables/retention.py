"""What each setting costs, and what of it survives each attack, as a table for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from rich.console import Group
from rich.text import Text

from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, victims_of
from mwm.runner.reporting.groups.measures import DAMAGED, damaged_statistics, present, unmarked_victims
from mwm.runner.reporting.groups.names import attack_names, attacks_of, by_knowledge, victim_names
from mwm.runner.reporting.groups.strength import curves
from mwm.runner.reporting.tables.layout import (
    WIDTH,
    Column,
    figure,
    how_ended,
    is_turned,
    mean_of,
    pointer,
    proof,
    setting_columns,
    side_by_side,
    table,
    width_of,
)
from mwm.trials.names import format_fraction
from mwm.trials.outcome import LEVEL, UNMARKED, UNPROVEN

T = TypeVar("T")

MOST_WARNINGS = 8

NAME = 44
"""Letters of a line of an attack's name, where attacks stand under one another."""

PAIR = "−log10 p/query accuracy"


def retention_table(groups: Groups, *, width: float = WIDTH) -> Iterator[Group]:
    """What each setting of the victim costs and what of it survives each attack: means over seeds.

    One line per setting; of its fields only those are shown in which the results differ. Of a victim and of a student
    it is the proof, -log10 p, and beside it the query accuracy: bold where the watermark is proven in every seed at the
    usual level. What is wider than `width` characters is several tables. Under the last stands whose accuracy is not to
    be trusted. Very many attacks stand under one another instead, by their threat models, and settings side by side.
    """
    counts = sorted({sum(row["status"] == "done" for row in members) for members in groups.values()} - {0})
    made = [*(_by_attack(groups, width) if is_turned(groups) else _by_setting(groups, width))]
    for portion, ends in made[:-1]:
        yield table(portion, [], ends=ends)
    for portion, ends in made[-1:]:
        yield table(portion, [_caption(counts), *pointer(groups), *_warnings(groups)], ends=ends)


Portion = tuple[Sequence[Column], Sequence[int]]
"""Columns that find room side by side, and the lines below which a rule stands."""


def _by_setting(groups: Groups, width: float) -> Iterator[Portion]:
    """A line for each setting."""
    attacks, victims = attacks_of(groups), victims_of(groups)
    named, curve_of, first = attack_names(groups), curves(attacks), setting_columns(victims)
    columns = [
        (one, Column(named[one], [proof(groups.get((victim, one), [])) for victim in victims])) for one in attacks
    ]
    alike = [[one for _, one in own] for _, own in groupby(columns, lambda one: curve_of[one[0]][:3])]
    own = _own([groups.get((victim, None), []) for victim in victims])
    for portion in side_by_side(width - width_of(first), [own, *alike]):
        yield [*first, *portion], ()


def _by_attack(groups: Groups, width: float) -> Iterator[Portion]:
    """A line for each attack, below what is told of the victims; those of one threat model stand together."""
    victims, named = victims_of(groups), attack_names(groups)
    own = _own([groups.get((victim, None), []) for victim in victims])
    heads, lines, ends = [Text(one.heading) for one in own], [[*one.cells] for one in own], [len(own) - 1]
    for known, attacks in by_knowledge(groups).items():
        if known is not None:
            heads.append(Text(str(known), "italic"))
            lines.append([Text("")] * len(victims))
        heads += [Text("\n".join(textwrap.wrap(named[one], NAME))) for one in attacks]
        lines += [[proof(groups.get((victim, one), [])) for victim in victims] for one in attacks]
        ends.append(len(heads) - 1)
    first, settings = Column("attack", heads, words=True), victim_names(victims)
    columns = [Column(settings[one], cells) for one, cells in zip(victims, zip(*lines, strict=True), strict=True)]
    for portion in side_by_side(width - first.width, [[column] for column in columns]):
        yield [first, *portion], ends


def _own(victims: Sequence[Members]) -> list[Column]:
    """What is told of the victims themselves; of one that started from weights, also how good these were."""
    started = any(present(own, "start_acc") for own in victims)
    return [
        *([Column("start clean", [Text(figure(own, "start_acc")) for own in victims])] if started else []),
        Column("victim clean", [Text(figure(own, "clean_acc") + how_ended(own)) for own in victims]),
        Column("clean drop", [Text(figure(own, "clean_drop")) for own in victims]),
        Column("victim proof", [_own_proof(own) for own in victims]),
    ]


def _own_proof(members: Members) -> Text:
    """What a victim's own key proves of it, and how many of the seeds are unmarked."""
    told, unmarked = proof(members, ends=False), present(members, "marked").count(False)
    return told.append(f"\n({unmarked} {UNMARKED})", "yellow") if unmarked else told


def _caption(counts: Sequence[int]) -> str:
    if not counts:
        return "no results yet"
    return f"{mean_of(counts, 'mean ± sd')}; attacks, proof: {PAIR}; bold: {LEVEL} for every seed"


def _warnings(groups: Groups) -> Iterator[Text]:
    """Which settings have victims without a watermark, and whose clean accuracy rests on damaged statistics."""
    unmarked = unmarked_victims(groups)
    if unmarked:
        yield Text(f"warning: {UNPROVEN}", "yellow")
    yield from _some(unmarked, groups, lambda told: f"{told[0]} of {told[1]}")
    found = damaged_statistics(groups)
    if found:
        yield Text(f"warning: {DAMAGED}: re-estimating batch normalisation on clean images changes it", "yellow")
    yield from _some(found, groups, lambda told: f"{format_fraction(told[0])}, re-estimated {format_fraction(told[1])}")


def _some(found: Mapping[Configuration, T], groups: Groups, say: Callable[[T], str]) -> Iterator[Text]:
    """What is said of settings, a line for each of the first."""
    named = victim_names(victims_of(groups))
    for victim, told in [*found.items()][:MOST_WARNINGS]:
        yield Text(f"  {named[victim]}: {say(told)}", "yellow")
    if len(found) > MOST_WARNINGS:
        yield Text(f"  and {len(found) - MOST_WARNINGS} more, in summary.json", "yellow")


def rejecting_table(groups: Groups) -> Group | None:
    """What is left where the attacker's network turns queries away, and how many honest images it turns away with them.

    None where no network does.
    """
    victims, named = victim_names(victims_of(groups)), attack_names(groups)
    found = [one for one, members in groups.items() if one[1] is not None and present(members, "false_rejects")]
    told = [(victims[victim], named[attack], groups[victim, attack]) for victim, attack in found if attack is not None]
    columns = [
        Column("setting", [Text(setting) for setting, _, _ in told], words=True),
        Column("attack", [Text(f"  {attack}") for _, attack, _ in told], words=True),
        Column("proof", [proof(members) for *_, members in told]),
        Column("clean accuracy", [Text(figure(members, "clean_acc")) for *_, members in told]),
        Column("false rejects", [Text(figure(members, "false_rejects")) for *_, members in told]),
    ]
    note = f"proof: {PAIR}; false rejects: the share of honest test images that the network turns away"
    return table(columns, [note]) if told else None
