"""What attacks leave, whom they give away, and what all of it costs, as tables of a paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, victims_of
from mwm.runner.reporting.groups.measures import by_scheme, detection_rate, present, proven
from mwm.runner.reporting.groups.names import attack_names, victim_names
from mwm.runner.reporting.report.paper.cells import (
    Line,
    Made,
    cell,
    line,
    measured,
    numbers,
    one,
    pointer,
    seeds,
    significance,
    three,
    two,
)
from mwm.runner.reporting.report.paper.latex import Part
from mwm.runner.reporting.tables.layout import is_turned
from mwm.trials.outcome import LEVEL

Measure = tuple[str, str, Callable[[float], str]]
"""The title of a measure, its name, and how its numbers are written."""

MEASURES: tuple[Measure, ...] = (
    ("proof, −log10 p", "neg_log10_p", one),
    ("query accuracy", "query_acc", two),
    ("clean accuracy", "clean_acc", three),
)

REJECTS: Measure = ("false rejects", "false_rejects", three)


def results(groups: Groups) -> Made:
    """What each attack leaves of each setting: the proof alone, with a line for each attack, where there are many."""
    victims = victim_names(victims_of(groups))
    attacks: dict[Configuration | None, str] = {None: "no attack"}
    attacks.update(attack_names(groups).items())
    if is_turned(groups):
        parts = [_part(MEASURES[0], groups, lines=attacks, across=victims)]
    else:
        parts = [_part(measure, groups, lines=victims, across=attacks) for measure in MEASURES]
    lines = [
        {"setting": victims[victim], "attack": attacks[attack], "proven": proven(members)}
        | line(members, [name for _, name, _ in (*MEASURES, REJECTS)])
        for (victim, attack), members in groups.items()
    ]
    told = f"{seeds([*groups.values()])}. {significance([*groups.values()])}{pointer(groups)}"
    caption = f"What attacks leave of watermarks. {told}"
    return caption, parts, lines


def _part(measure: Measure, groups: Groups, *, lines: Mapping[Any, str], across: Mapping[Any, str]) -> Part:
    """A measure of settings and attacks, either of which may be lines."""
    title, name, form = measure
    turned = None in lines
    rows = [
        [
            head,
            *(measured(groups.get((other, one) if turned else (one, other), []), name, form) for other in across),
        ]
        for one, head in lines.items()
    ]
    return Part(title, ["attack" if turned else "setting", *across.values()], rows)


def detection(groups: Groups) -> Made:
    """How many students of each attack on each kind of scheme are detected."""
    found, attacks = by_scheme(groups), attack_names(groups)
    schemes = [*dict.fromkeys(scheme for scheme, _ in found)]
    told = {key: detection_rate(members) for key, members in found.items()}
    rows = [
        [name, *(_share(told.get((scheme, attack), {"students": 0})) for scheme in schemes)]
        for attack, name in attacks.items()
    ]
    lines = [{"scheme": scheme, "attack": attacks[attack]} | rate for (scheme, attack), rate in told.items()]
    caption = (
        f"Students detected at {LEVEL}, of all settings and seeds of a scheme, and the 95 % interval of "
        f"their share (Clopper and Pearson, 1934).{pointer(groups)}"
    )
    return caption, [Part("", ["attack", *schemes], rows)], lines


def _share(told: Mapping[str, Any]) -> str:
    if not told["students"]:
        return "--"
    return f"{told['detected']}/{told['students']} [{two(told['low'])}, {two(told['high'])}]"


COSTS = (
    ("accuracy of the start", "start_acc", three),
    ("clean accuracy", "clean_acc", three),
    ("clean drop", "clean_drop", three),
    ("oracle calls", "oracle_calls", lambda number: f"{number:,.0f}".replace(",", "{,}")),
    ("seconds", "seconds", one),
    ("MiB", "peak_mib", lambda number: f"{number:.0f}"),
)


def cost(groups: Groups) -> Made:
    """What a watermark costs its owner, and an attack the attacker."""
    victims = victim_names(victims_of(groups))
    watermarks: dict[str, Members] = {name: groups.get((victim, None), []) for victim, name in victims.items()}
    attacks: dict[str, Members] = {  # a student of a control has a row for each key: it is counted once
        name: [*{row["digest"]: row for (_, own), rows in groups.items() if own == attack for row in rows}.values()]
        for attack, name in attack_names(groups).items()
    }
    started = ["start_acc"] * any(present(own, "start_acc") for own in watermarks.values())
    made = [_costs("setting", watermarks, (*started, "clean_acc", "clean_drop", "seconds", "peak_mib"))]
    made += [_costs("attack", attacks, ("clean_acc", "oracle_calls", "seconds", "peak_mib"))] if attacks else []
    caption = f"What watermarks and attacks cost. {seeds([*watermarks.values()])}; attacks: over all settings, too."
    return caption, [part for part, _ in made], [line for _, lines in made for line in lines]


def _costs(kind: str, groups: Mapping[str, Members], names: Sequence[str]) -> tuple[Part, list[Line]]:
    """Some costs of settings or of attacks, by name."""
    costs = [own for own in COSTS if own[1] in names]
    rows = [[name, *(cell(numbers(own, told), form) for _, told, form in costs)] for name, own in groups.items()]
    lines = [{"kind": kind, "name": name} | line(own, names) for name, own in groups.items()]
    return Part("", [kind, *(heading for heading, _, _ in costs)], rows), [*lines]
