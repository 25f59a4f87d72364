"""What configurations are called, and in which order attacks are told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from mwm.config.spec import shown_fields
from mwm.runner.reporting.groups import catalogue
from mwm.runner.reporting.groups.configurations import (
    RECIPE,
    Configuration,
    Groups,
    is_of_scheme,
    varying_fields,
)
from mwm.runner.reporting.groups.strength import curves
from mwm.runner.reporting.groups.threats import Knowledge, threats
from mwm.trials.names import describe

PART = re.compile(r"(?P<place>(?:steps\.\d+\.)?)(?P<field>(?!steps\.)\w+)\.(?P<number>\d+)\.(?P<path>.+)")
"""A field of one of several records that a field of an attack holds, itself or in a step of a sequence."""


def attacks_of(groups: Groups) -> list[Configuration]:
    """The configurations of attacks, each once, in the order of the catalogue, whichever ended first.

    Of one kind, those that are named like the default come first, and the shorter a name, the sooner. Those that differ
    in their strength alone stand together, the weakest number first.
    """
    order, seen = [*catalogue.attacks()], {attack for _, attack in groups if attack is not None}
    curve_of = curves(seen)
    named = configuration_names([*{curve.attack for curve in curve_of.values()}], "kind")

    def place(attack: Configuration) -> tuple[int, list[bool], int, str, float]:
        own, record, curve = dict(attack), catalogue.attacks()[dict(attack)["kind"]], curve_of[attack]
        usual = {field.name: field.default for field in fields(record)}
        always = [name for name, told in shown_fields(record).items() if told.always and name != curve.field]
        apart = [own.get(name) != usual[name] for name in always]
        words = named[curve.attack].count(" ")
        return order.index(own["kind"]), apart, words, repr(curve.attack), curve.place

    return sorted(seen, key=place)


def attack_names(groups: Groups) -> dict[Configuration, str]:
    """Each attack in words, in the order in which they are told; of one that is adapted to a scheme also to which."""
    told, named = threats(groups), configuration_names(attacks_of(groups), "kind")
    adaptive = {attack: threat.adaptive for attack, threat in told.items() if threat.adaptive}
    return {one: f"{name} (adaptive: {adaptive[one]})" if one in adaptive else name for one, name in named.items()}


def curve_names(attacks: Collection[Configuration]) -> dict[Configuration, str]:
    """Each curve in words, by what its attacks are apart from their strength; with that if it is always the same."""
    alike: dict[Configuration, list[Configuration]] = {}
    for attack, curve in curves(attacks).items():
        alike.setdefault(curve.attack, []).append(attack)
    whole = {curve: own[0] if len(own) == 1 else curve for curve, own in alike.items()}
    named = configuration_names([*whole.values()], "kind")
    return {curve: named[one] for curve, one in whole.items()}


def configuration_names(configurations: Sequence[Configuration], kind: str) -> dict[Configuration, str]:
    """Each configuration in words: its kind, which is said at the path `kind`, then what tells it from the others.

    Fields of recipes, and of an attack its defaults, are left out wherever no two names are alike without them; but
    the strength of an attack is said wherever others of its kind are weaker or stronger.
    """
    told = {one: _with_parts_in_words(one) for one in configurations}
    said = [path for path in varying_fields(told.values()) if path != kind and not _is_kind_of_step(path)]
    strong = _strengths(configurations)
    first = {
        name for record in catalogue.attacks().values() for name, own in shown_fields(record).items() if own.always
    }
    first |= {f"scheme.{name}" for one in catalogue.schemes() for name, own in shown_fields(one).items() if own.always}
    last = {*strong.values()}
    said.sort(key=lambda path: (is_of_scheme(path), path in last, path not in first, _place(path, path in first)))
    needed = {one: _needed(told[one], said, strong.get(one, "")) for one in configurations}
    names = {one: _name(told[one], kind, needed[one]) for one in configurations}
    times = Counter(names.values())
    for name in [name for name, count in times.items() if count > 1]:
        alike = [one for one in configurations if names[one] == name]
        apart = {*varying_fields(told[one] for one in alike)}
        for one in alike:
            names[one] = _name(told[one], kind, [path for path in said if path in apart or path in needed[one]])
    return names


def _with_parts_in_words(configuration: Configuration) -> Configuration:
    """A configuration in which each field that holds several records is their kinds and what is no default of them.

    A field that holds none has no value.
    """
    own, found = dict(configuration), dict[str, Any]()
    for path, value in configuration:
        part = PART.fullmatch(path)
        if part is None:
            found[path] = None if value == () else value
            continue
        held = found.setdefault(f"{part['place']}{part['field']}", {})
        held.setdefault(int(part["number"]), {})[part["path"]] = value
    return tuple(
        (path, _words(path, value, own) if isinstance(value, dict) else value) for path, value in found.items()
    )


def _words(field: str, parts: Mapping[int, Mapping[str, Any]], attack: Mapping[str, Any]) -> str:
    """What is said of several records in a field of an attack."""
    place, _, name = field.rpartition(".")
    usual = catalogue.part_defaults(attack[f"{place}.kind" if place else "kind"], name)
    told = []
    for _, part in sorted(parts.items()):
        default = usual.get(part["kind"], {})
        own = [(path, value) for path, value in part.items() if path != "kind" and default.get(path) != value]
        told.append(describe(part["kind"], own))
    return " + ".join(told)


def _strengths(configurations: Collection[Configuration]) -> dict[Configuration, str]:
    """The field that says how strong an attack is, of attacks of whose kinds there are weaker or stronger ones."""
    found = curves(configurations)
    values: dict[tuple[tuple[str, ...], str], set[Any]] = {}
    for one, curve in found.items():
        values.setdefault((_kinds(one), curve.field), set()).add(curve.strength)
    return {one: curve.field for one, curve in found.items() if len(values[_kinds(one), curve.field]) > 1}


def _kinds(configuration: Configuration) -> tuple[str, ...]:
    return tuple(catalogue.kinds(configuration).values())


def _is_kind_of_step(path: str) -> bool:
    """Whether a path says the kind of a step of a sequence, which its name says anyhow."""
    return catalogue.STEP.fullmatch(path.removesuffix("kind")) is not None


def _place(path: str, first: bool) -> str:
    """By which fields of equal rank are sorted; of a scheme those that do not always name it keep their order."""
    return path if first or not is_of_scheme(path) else ""


def _needed(configuration: Configuration, said: Iterable[str], strength: str) -> list[str]:
    """The paths at which a configuration is no recipe and no default of an attack, and that of its strength."""
    own = dict(configuration)
    usual = {
        f"{place}{name}": value
        for place, kind in catalogue.kinds(configuration).items()
        for name, value in catalogue.defaults(kind).items()
    }
    return [
        path
        for path in said
        if path == strength or not (RECIPE.search(path) or (path in usual and usual[path] == own.get(path)))
    ]


def _name(configuration: Configuration, kind: str, said: Iterable[str]) -> str:
    """The kind, or the kinds of the steps of a sequence, and the fields that are to be said."""
    own = dict(configuration)
    steps = [*catalogue.kinds(configuration).values()]
    name = " + ".join(steps) if kind == "kind" else own[kind]
    return describe(name, [(path, own[path]) for path in said if path in own])


def victim_names(configurations: Iterable[Configuration]) -> dict[Configuration, str]:
    """Each setting of a victim in words: what tells it from others of its kind of scheme alone."""
    kinds: dict[str, list[Configuration]] = {}
    for victim in dict.fromkeys(configurations):
        kinds.setdefault(dict(victim)["scheme.kind"], []).append(victim)
    return {one: name for alike in kinds.values() for one, name in configuration_names(alike, "scheme.kind").items()}


def by_knowledge(groups: Groups) -> dict[Knowledge | None, list[Configuration]]:
    """The attacks by what they stand together by, in their order; None are those of earlier releases."""
    told, found = threats(groups), dict[Knowledge | None, list[Configuration]]()
    for attack in attacks_of(groups):
        found.setdefault(Knowledge.of(told[attack]) if attack in told else None, []).append(attack)
    return found
