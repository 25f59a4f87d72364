"""Settings: rows that differ in nothing but seeds, what they are called, and what they show on average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from mwm.attacks import Attack
from mwm.config.spec import encode, flatten
from mwm.oracle.oracle import LabelKind
from mwm.runner.reporting.results import SCHEME, TrialResult, by_victim
from mwm.stats.intervals import clopper_pearson
from mwm.trials.names import INHERITED, describe
from mwm.trials.outcome import PROVEN_AT_DEFAULT
from mwm.trials.trial import Trial

CATALOGUE = [option.kind for option in get_args(get_args(Attack)[0])]
"""The kinds of attacks in the order of their union."""

Configuration = tuple[tuple[str, Any], ...]
"""The dotted paths and values of a record without its seeds."""

Members = Sequence[Mapping[str, Any]]

Groups = Mapping[tuple[Configuration, Configuration | None], Members]
"""Rows that differ in nothing but seeds, under the settings of the victim and of the attack (None for victims)."""


def group_by_configuration(results: Sequence[TrialResult], table: Members) -> Groups:
    """The rows of results (`table`, as `rows` gives it) by setting, in their order."""
    trials = [result.trial for result, _ in by_victim(results)]
    # What follows the victim is marked so where that makes fewer attacks: "the student is like the victim" is one.
    ways = [[_attack_setting(trial, following) for trial in trials] for following in (True, False)]
    attacks = min(ways, key=lambda settings: len(set(settings)))
    groups: dict[tuple[Configuration, Configuration | None], list[Mapping[str, Any]]] = {}
    for trial, attack, row in zip(trials, attacks, table, strict=True):
        groups.setdefault((_setting(encode(trial.victim)), attack), []).append(row)
    return groups


def victims_of(groups: Groups) -> list[Configuration]:
    """The settings of victims, each once."""
    return list(dict.fromkeys(victim for victim, _ in groups))


def attacked(groups: Groups) -> list[Configuration]:
    """The settings of victims that were attacked, each once."""
    return list(dict.fromkeys(victim for victim, attack in groups if attack is not None))


def attacks_of(groups: Groups) -> list[Configuration]:
    """The settings of attacks, each once, in the order of the catalogue, whichever ended first.

    Those that differ in their budget alone stand together, the smallest first.
    """

    def place(attack: Configuration) -> tuple[int, int, str, float]:
        own = dict(attack)
        answers = get_args(LabelKind).index(own["labels"])
        return CATALOGUE.index(own["kind"]), answers, repr(without_budget(attack)), own["budget"] or math.inf

    return sorted({attack for _, attack in groups if attack is not None}, key=place)


def without_budget(attack: Configuration) -> Configuration:
    """What an attack is apart from its budget."""
    return tuple(leaf for leaf in attack if leaf[0] != "budget")


def _attack_setting(trial: Trial, following: bool) -> Configuration | None:
    if trial.attack is None:
        return None
    attack, victim = encode(trial.attack), encode(trial.victim)
    if following:
        attack["student"] = _mark_inherited(attack["student"], victim["model"])
        attack["recipe"] = _mark_inherited(attack["recipe"], victim["recipe"])
    return _setting(attack)


def _mark_inherited(tree: Any, leader: Any) -> Any:
    """A tree in which what equals its leader says so; records of a kind follow as a whole or not at all."""
    if not isinstance(tree, Mapping):
        return INHERITED if tree == leader else tree
    if "kind" in tree:
        return {"kind": INHERITED} if tree == leader else tree
    return {name: _mark_inherited(value, leader[name]) for name, value in tree.items()}


def _setting(tree: Mapping[str, Any]) -> Configuration:
    own = [(path, value) for path, value in flatten(tree).items() if path.rpartition(".")[2] != "seed"]
    return tuple((path, tuple(value) if isinstance(value, list) else value) for path, value in own)


def varying_fields(settings: Iterable[Configuration]) -> list[str]:
    """The paths on which two settings that both have them disagree; those of a scheme last, in the order of the CSV."""
    seen: dict[str, set[Any]] = {}
    for setting in settings:
        for path, value in setting:
            seen.setdefault(path, set()).add(value)
    return sorted((path for path, values in seen.items() if len(values) > 1), key=_rank)


def _rank(path: str) -> int:
    room, _, name = path.partition(".")
    return SCHEME.index(name) if room == "scheme" and name in SCHEME else -1


def configuration_names(settings: Sequence[Configuration], kind: str) -> dict[Configuration, str]:
    """Each setting in words: its kind, which is said at the path `kind`, then what tells it from the others."""
    said = sorted({*varying_fields(settings)} - {kind}, key=lambda path: (_rank(path), path == "budget", path))
    leaves = {one: dict(one) for one in settings}
    return {
        one: describe(own[kind], [(path, own[path]) for path in said if path in own]) for one, own in leaves.items()
    }


def by_scheme(groups: Groups) -> dict[tuple[str, Configuration], Members]:
    """The students of each attack on each kind of scheme, all its settings together."""
    found: dict[tuple[str, Configuration], list[Mapping[str, Any]]] = {}
    for (victim, attack), members in groups.items():
        if attack is not None:
            found.setdefault((dict(victim)["scheme.kind"], attack), []).extend(members)
    return dict(found)


def present(members: Members, name: str) -> list[float]:
    """What the rows say under a name, where they say something."""
    return [row[name] for row in members if row[name] is not None]


def detection_rate(members: Members) -> dict[str, Any]:
    """How many of the students are shown to be copies at the usual level; their share, and its 95 % interval."""
    proofs = present(members, PROVEN_AT_DEFAULT)
    count, students = round(sum(proofs)), len(proofs)
    low, high = clopper_pearson(count, students) if students else (None, None)
    part = count / students if students else None
    return {"students": students, "convicted": count, "share": part, "low": low, "high": high}
