"""Configurations: rows that differ in nothing but seeds, what they are called, and what they show on average."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from itertools import product
from statistics import fmean
from typing import Any, Literal, get_args

from mwm.attacks import Attack
from mwm.config.spec import shown_fields
from mwm.stats.intervals import clopper_pearson
from mwm.trials.names import INHERITED, describe
from mwm.trials.outcome import PROVEN_AT_DEFAULT
from mwm.watermarks.schemes import Scheme

Row = Mapping[str, Any]
"""What is known of one trial, by column: the fields of the trial under their dotted paths ("victim.scheme.steps"), then
what it measured. Fields that a trial does not have are missing."""

CLASSES: Literal["classes"] = "classes"
"""What `cells` says of a key in which a cell is a class, and no image of its own."""

BUDGET = "query_budget"
"""The field of an attack that a curve runs along: attacks that differ in it alone are one curve."""

STEP = re.compile(r"steps\.\d+\.")
"""Where the step of a sequence of attacks stands in it."""

RECIPE = re.compile(r"(^|\.)recipe\.")
"""Where a field of a recipe stands."""

KEY_SIZE = "scheme.num_queries"
"""The field that says how large a key is: a number of images, or "classes"."""

REESTIMATED, MOST_DAMAGE = "reestimated_clean_acc", 0.01
"""The clean accuracy of a victim whose statistics are estimated anew, and how far it may be off before that is told."""

DAMAGED = "this accuracy rests on damaged statistics"

Configuration = tuple[tuple[str, Any], ...]
"""The dotted paths and values of a record without its seeds."""

Members = Sequence[Row]

Groups = Mapping[tuple[Configuration, Configuration | None], Members]
"""Rows that differ in nothing but seeds, under the configurations of victim and attack (None for victims)."""


def group_by_configuration(table: Members) -> Groups:
    """Rows by configuration, in their order."""
    # What follows the victim is marked so where that makes fewer attacks: "the student is like the victim" is one.
    ways = [[_attack(row, inherit) for row in table] for inherit in (True, False)]
    attacks = min(ways, key=lambda configurations: len(set(configurations)))
    groups: dict[tuple[Configuration, Configuration | None], list[Row]] = {}
    for attack, row in zip(attacks, table, strict=True):
        groups.setdefault((_victim(row), attack), []).append(row)
    return groups


def victims_of(groups: Groups) -> list[Configuration]:
    """The settings of victims, each once."""
    return list(dict.fromkeys(victim for victim, _ in groups))


def attacked(groups: Groups) -> list[Configuration]:
    """The settings of victims that were attacked, each once."""
    return list(dict.fromkeys(victim for victim, attack in groups if attack is not None))


def attacks_of(groups: Groups) -> list[Configuration]:
    """The configurations of attacks, each once, in the order of the catalogue, whichever ended first.

    Of one kind, those that are named like the default come first, and the shorter a name, the sooner. Those that differ
    in their query budget alone stand together, the smallest first.
    """
    order, seen = [*_attacks()], {attack for _, attack in groups if attack is not None}
    named = configuration_names([*{without_budget(attack) for attack in seen}], "kind")

    def place(attack: Configuration) -> tuple[int, list[bool], int, str, float]:
        own, record = dict(attack), _attacks()[dict(attack)["kind"]]
        usual = {field.name: field.default for field in fields(record)}
        apart = [own.get(name) != usual[name] for name, told in shown_fields(record).items() if told.always]
        words = named[without_budget(attack)].count(" ")
        return order.index(own["kind"]), apart, words, repr(without_budget(attack)), own.get(BUDGET) or math.inf

    return sorted(seen, key=place)


def without_budget(attack: Configuration) -> Configuration:
    """What an attack is apart from its query budget."""
    return tuple(leaf for leaf in attack if leaf[0] != BUDGET)


def _victim(row: Row) -> Configuration:
    key = {KEY_SIZE: CLASSES} if row["cells"] == CLASSES else {}
    return _configuration(_below("victim", row) | key)


def _attack(row: Row, inherit: bool) -> Configuration | None:
    attack = _below("attack", row)
    if not attack:
        return None
    if inherit:
        victim = _below("victim", row)
        steps = (found[0] for path in attack if (found := STEP.match(path)))
        for place, (field, like) in product(dict.fromkeys(["", *steps]), (("student", "model"), ("recipe", "recipe"))):
            attack = _mark_inherited(attack, f"{place}{field}", _below(like, victim))
    return _configuration(attack)


def _below(name: str, row: Row) -> dict[str, Any]:
    return {path.removeprefix(f"{name}."): value for path, value in row.items() if path.startswith(f"{name}.")}


def _mark_inherited(attack: dict[str, Any], field: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """An attack in which what equals its victim says so; a record of a kind follows as a whole or not at all."""
    own = _below(field, attack)
    if not own or ("kind" in own and own != like):
        return attack
    if "kind" in own:
        return {path: value for path, value in attack.items() if not path.startswith(f"{field}.")} | {
            f"{field}.kind": INHERITED
        }
    alike = {path for path, value in own.items() if like.get(path) == value and not path.startswith("schedule.")}
    if _below("schedule", own) == _below("schedule", like):
        alike |= {path for path in own if path.startswith("schedule.")}
    return attack | {f"{field}.{path}": INHERITED for path in alike}


def _configuration(leaves: Mapping[str, Any]) -> Configuration:
    own = [(path, value) for path, value in leaves.items() if path.rpartition(".")[2] != "seed"]
    return tuple((path, tuple(value) if isinstance(value, list) else value) for path, value in own)


def varying_fields(configurations: Iterable[Configuration]) -> list[str]:
    """The paths on which two configurations that both have them disagree, in their order; those of a scheme last."""
    seen: dict[str, set[Any]] = {}
    for configuration in configurations:
        for path, value in configuration:
            seen.setdefault(path, set()).add(value)
    return sorted((path for path, values in seen.items() if len(values) > 1), key=_of_scheme)


def _of_scheme(path: str) -> bool:
    return path.startswith("scheme.")


def configuration_names(configurations: Sequence[Configuration], kind: str) -> dict[Configuration, str]:
    """Each configuration in words: its kind, which is said at the path `kind`, then what tells it from the others.

    Fields of recipes, and of an attack its defaults, are left out wherever no two names are alike without them.
    """
    said = [path for path in varying_fields(configurations) if path != kind]
    first = {name for record in _attacks().values() for name, told in shown_fields(record).items() if told.always}
    first |= {f"scheme.{name}" for record in _schemes() for name, told in shown_fields(record).items() if told.always}
    said.sort(key=lambda path: (_of_scheme(path), path == BUDGET, path not in first, _place(path, path in first)))
    needed = {one: _needed(one, said) for one in configurations}
    names = {one: _name(one, kind, needed[one]) for one in configurations}
    times = Counter(names.values())
    for name in [name for name, count in times.items() if count > 1]:
        alike = [one for one in configurations if names[one] == name]
        apart = {*varying_fields(alike)}
        for one in alike:
            names[one] = _name(one, kind, [path for path in said if path in apart or path in needed[one]])
    return names


def _place(path: str, first: bool) -> str:
    """By which fields of equal rank are sorted; of a scheme those that do not always name it keep their order."""
    return path if first or not _of_scheme(path) else ""


def _needed(configuration: Configuration, said: Iterable[str]) -> list[str]:
    """The paths at which a configuration is no recipe and no default of an attack."""
    own = dict(configuration)
    usual = _defaults(own.get("kind", ""))
    return [path for path in said if not RECIPE.search(path) and not (path in usual and usual[path] == own.get(path))]


@cache
def _schemes() -> tuple[type, ...]:
    """The catalogue of schemes."""
    return get_args(get_args(Scheme)[0])


@cache
def _attacks() -> dict[str, type]:
    """The catalogue of attacks by kind."""
    return {kind.kind: kind for kind in get_args(get_args(Attack)[0])}


@cache
def _defaults(kind: str) -> dict[str, Any]:
    """The defaults of an attack's fields, but of those that are always told."""
    record = _attacks().get(kind)
    if record is None:
        return {}
    told = shown_fields(record)
    return {one.name: one.default for one in fields(record) if one.name not in told or not told[one.name].always}


def _name(configuration: Configuration, kind: str, said: Iterable[str]) -> str:
    """The kind, or the kinds of the steps of a sequence, and the fields that are to be said."""
    own = dict(configuration)
    steps = [str(value) for path, value in configuration if STEP.fullmatch(path.removesuffix("kind"))]
    return describe(" + ".join(steps) or own[kind], [(path, own[path]) for path in said if path in own])


def victim_names(configurations: Iterable[Configuration]) -> dict[Configuration, str]:
    """Each setting of a victim in words: what tells it from others of its kind of scheme alone."""
    kinds: dict[str, list[Configuration]] = {}
    for victim in dict.fromkeys(configurations):
        kinds.setdefault(dict(victim)["scheme.kind"], []).append(victim)
    return {one: name for alike in kinds.values() for one, name in configuration_names(alike, "scheme.kind").items()}


def by_scheme(groups: Groups) -> dict[tuple[str, Configuration], Members]:
    """The students of each attack on each kind of scheme, all its settings together."""
    found: dict[tuple[str, Configuration], list[Mapping[str, Any]]] = {}
    for (victim, attack), members in groups.items():
        if attack is not None:
            found.setdefault((dict(victim)["scheme.kind"], attack), []).extend(members)
    return dict(found)


def present(members: Members, name: str) -> list[float]:
    """What the rows say under a name, where they say something."""
    return [row[name] for row in members if row.get(name) is not None]


def proven(members: Members) -> bool:
    """Whether the watermark is proven at the usual level in every seed that was measured, and in one at least."""
    proofs = present(members, PROVEN_AT_DEFAULT)
    return bool(proofs) and all(proofs)


def detection_rate(members: Members) -> dict[str, Any]:
    """How many of the students are shown to be copies at the usual level; their share, and its 95 % interval.

    A student counts once. One of a control is scored on several keys, and detected if any of them is proven.
    """
    proofs: dict[str, bool] = {}
    for row in members:
        if row.get(PROVEN_AT_DEFAULT) is not None:
            proofs[row["digest"]] = proofs.get(row["digest"], False) or row[PROVEN_AT_DEFAULT]
    count, students = sum(proofs.values()), len(proofs)
    low, high = clopper_pearson(count, students) if students else (None, None)
    part = count / students if students else None
    return {"students": students, "detected": count, "share": part, "low": low, "high": high}


def unmarked_victims(groups: Groups) -> dict[Configuration, tuple[int, int]]:
    """Settings with victims that carry no watermark: how many there are, and of how many that is known."""
    found = {}
    for (victim, attack), members in groups.items():
        known = present(members, "marked")
        if attack is None and (unmarked := known.count(False)):
            found[victim] = unmarked, len(known)
    return found


def damaged_statistics(groups: Groups) -> dict[Configuration, tuple[float, float]]:
    """Settings whose clean accuracy rests on damaged statistics: that accuracy, and the re-estimated one.

    They are means over seeds and differ by more than a point: the stored statistics of batch normalisation are not
    those of clean images.
    """
    found = {}
    for (victim, attack), members in groups.items():
        both = [row for row in members if row.get("clean_acc") is not None and row.get(REESTIMATED) is not None]
        if attack is None and both:
            own, anew = (fmean(present(both, name)) for name in ("clean_acc", REESTIMATED))
            if abs(own - anew) > MOST_DAMAGE + 1e-9:
                found[victim] = own, anew
    return found
