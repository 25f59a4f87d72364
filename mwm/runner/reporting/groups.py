"""Settings: rows that differ in nothing but seeds, what they are called, and what they show on average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from mwm.attacks import Attack
from mwm.config.spec import encode, flatten
from mwm.oracle.oracle import Answers
from mwm.runner.reporting.results import SCHEME, Result, ordered
from mwm.stats.intervals import interval
from mwm.trials.names import AS_VICTIM, naming
from mwm.trials.outcome import PROVEN
from mwm.trials.trial import Trial

CATALOGUE = [option.kind for option in get_args(get_args(Attack)[0])]
"""The kinds of attacks in the order of their union."""

Setting = tuple[tuple[str, Any], ...]
"""The dotted paths and values of a record without its seeds."""

Members = Sequence[Mapping[str, Any]]

Groups = Mapping[tuple[Setting, Setting | None], Members]
"""Rows that differ in nothing but seeds, under the settings of the victim and of the attack (None for victims)."""


def grouped(results: Sequence[Result], table: Members) -> Groups:
    """The rows of results (`table`, as `rows` gives it) by setting, in their order."""
    trials = [result.trial for result, _ in ordered(results)]
    # What follows the victim is marked so where that makes fewer attacks: "the student is like the victim" is one.
    ways = [[_attack_setting(trial, following) for trial in trials] for following in (True, False)]
    attacks = min(ways, key=lambda settings: len(set(settings)))
    groups: dict[tuple[Setting, Setting | None], list[Mapping[str, Any]]] = {}
    for trial, attack, row in zip(trials, attacks, table, strict=True):
        groups.setdefault((_setting(encode(trial.victim)), attack), []).append(row)
    return groups


def victims_of(groups: Groups) -> list[Setting]:
    """The settings of victims, each once."""
    return list(dict.fromkeys(victim for victim, _ in groups))


def stolen_of(groups: Groups) -> list[Setting]:
    """The settings of victims that were attacked, each once."""
    return list(dict.fromkeys(victim for victim, attack in groups if attack is not None))


def attacks_of(groups: Groups) -> list[Setting]:
    """The settings of attacks, each once, in the order of the catalogue, whichever ended first.

    Those that differ in their budget alone stand together, the smallest first.
    """

    def place(attack: Setting) -> tuple[int, int, str, float]:
        own = dict(attack)
        answers = get_args(Answers).index(own["labels"])
        return CATALOGUE.index(own["kind"]), answers, repr(unbudgeted(attack)), own["budget"] or math.inf

    return sorted({attack for _, attack in groups if attack is not None}, key=place)


def unbudgeted(attack: Setting) -> Setting:
    """What an attack is apart from its budget."""
    return tuple(leaf for leaf in attack if leaf[0] != "budget")


def _attack_setting(trial: Trial, following: bool) -> Setting | None:
    if trial.attack is None:
        return None
    attack, victim = encode(trial.attack), encode(trial.victim)
    if following:
        attack["student"] = _follow(attack["student"], victim["model"])
        attack["recipe"] = _follow(attack["recipe"], victim["recipe"])
    return _setting(attack)


def _follow(tree: Any, leader: Any) -> Any:
    """A tree in which what equals its leader says so; records of a kind follow as a whole or not at all."""
    if not isinstance(tree, Mapping):
        return AS_VICTIM if tree == leader else tree
    if "kind" in tree:
        return {"kind": AS_VICTIM} if tree == leader else tree
    return {name: _follow(value, leader[name]) for name, value in tree.items()}


def _setting(tree: Mapping[str, Any]) -> Setting:
    own = [(path, value) for path, value in flatten(tree).items() if path.rpartition(".")[2] != "seed"]
    return tuple((path, tuple(value) if isinstance(value, list) else value) for path, value in own)


def varying(settings: Iterable[Setting]) -> list[str]:
    """The paths on which two settings that both have them disagree; those of a scheme last, in the order of the CSV."""
    seen: dict[str, set[Any]] = {}
    for setting in settings:
        for path, value in setting:
            seen.setdefault(path, set()).add(value)
    return sorted((path for path, values in seen.items() if len(values) > 1), key=_rank)


def _rank(path: str) -> int:
    room, _, name = path.partition(".")
    return SCHEME.index(name) if room == "scheme" and name in SCHEME else -1


def names(settings: Sequence[Setting], kind: str) -> dict[Setting, str]:
    """Each setting in words: its kind, which is said at the path `kind`, then what tells it from the others."""
    said = sorted({*varying(settings)} - {kind}, key=lambda path: (_rank(path), path == "budget", path))
    leaves = {one: dict(one) for one in settings}
    return {one: naming(own[kind], [(path, own[path]) for path in said if path in own]) for one, own in leaves.items()}


def by_scheme(groups: Groups) -> dict[tuple[str, Setting], Members]:
    """The students of each attack on each kind of scheme, all its settings together."""
    found: dict[tuple[str, Setting], list[Mapping[str, Any]]] = {}
    for (victim, attack), members in groups.items():
        if attack is not None:
            found.setdefault((dict(victim)["scheme.kind"], attack), []).extend(members)
    return dict(found)


def measured(members: Members, name: str) -> list[float]:
    """What the rows say under a name, where they say something."""
    return [row[name] for row in members if row[name] is not None]


def convicted(members: Members) -> dict[str, Any]:
    """How many of the students are shown to be copies at the usual level; their share, and its 95 % interval."""
    proofs = measured(members, PROVEN)
    count, students = round(sum(proofs)), len(proofs)
    low, high = interval(count, students) if students else (None, None)
    part = count / students if students else None
    return {"students": students, "convicted": count, "share": part, "low": low, "high": high}
