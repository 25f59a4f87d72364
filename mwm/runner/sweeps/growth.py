"""How a sweep may grow: what its file says otherwise than before, and which of its trials are none of it any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mwm.attacks import Attack
from mwm.config.errors import show
from mwm.config.spec import decode, digest, encode, flatten
from mwm.config.written import plain
from mwm.runner.sweeps.search import listed_victims
from mwm.runner.sweeps.space import expand, grid_options
from mwm.runner.sweeps.sweep import OptunaSearch, RandomSearch, Sweep
from mwm.trials.trial import Trial, TrialInputs, Victim, trial_digest

Changes = Sequence[tuple[str, str]]
"""What a file says otherwise: `-` or `+`, and what it does not say any more, or says now."""

ATTACKS = "attacks"


def changes(before: Sweep, now: Sweep) -> Changes:
    """What two sweeps ask otherwise, by paths; of attacks, whose order means nothing, each as a whole."""
    was, wanted = _said(before), _said(now)
    found = [("-", line) for key, line in was.items() if key not in wanted]
    found += [("+", line) for key, line in wanted.items() if key not in was]
    return sorted(found, key=lambda one: (place(one[1]), one[0] == "+"))


def in_words(found: Changes) -> Iterator[str]:
    """What a file says now, and what it says no more with nothing in its place."""
    new = [place(line) for sign, line in found if sign == "+"]
    for sign, line in found:
        own = place(line)
        if sign == "+":
            yield line
        elif own == ATTACKS or not any(f"{one}.".startswith(f"{own}.") or own.startswith(f"{one}.") for one in new):
            yield f"no more {line}"


def place(line: str) -> str:
    """The path of a line."""
    return line.partition(": ")[0]


def _said(sweep: Sweep) -> dict[str, str]:
    """What is asked: a line for each value, under itself, and one for each attack, under its content."""
    asked = plain(sweep.question) | {"search": encode(sweep.search)}
    attacks = [one for tree in asked.pop(ATTACKS) for one in expand(tree, grid_options, ATTACKS)]
    found = {digest(encode(decode(Attack, one, ATTACKS))): f"{ATTACKS}: {show(one)}" for one in attacks}
    return found | {line: line for line in (f"{path}: {show(value)}" for path, value in flatten(asked).items())}


def refuse_other_search(before: Sweep, now: Sweep, *, attacked: bool) -> None:
    """Raise ValueError for what a search by Optuna that has begun cannot go on with.

    Its study holds points of one space, and what they came to by one set of objectives. `attacked`: an attack on one of
    its victims has ended, so that attacks which come later would change what Optuna was told.
    """
    if not same_search(before, now):
        reason = (
            "Optuna goes on in the space of its study, with its objectives and its seed, and with num_samples alone"
        )
        raise ValueError(f"search: is not allowed to change: {reason}")
    told = [name for name in getattr(now.search, "objectives", ()) if name.startswith(("worst", "mean"))]
    if told and attacked and _attacks(now) != _attacks(before):
        reason = f"Optuna was told {told[0]} of the attacks before, and would hold victims of both against each other"
        raise ValueError(f"attacks: are not allowed to change: {reason}")


def same_search(before: Sweep, now: Sweep) -> bool:
    """Whether two sweeps draw from one study of Optuna, or neither does from any."""
    return bool(_searched(before) == _searched(now))


def _searched(sweep: Sweep) -> Any:
    """The space and the search of an Optuna search but for its length; None of another one."""
    if not isinstance(sweep.search, OptunaSearch):
        return None
    return plain(sweep.question["victim"]), sweep.question["search"]


def _attacks(sweep: Sweep) -> set[str]:
    return {digest(encode(attack)) for _, attack in sweep.attack_specs}


def asked_victims(before: Sweep | None, now: Sweep) -> Iterable[Victim]:
    """The victims that a grid or chance gives a sweep, and those of more samples that it was asked for before."""
    search, earlier = now.search, before.search if before is not None else now.search
    if isinstance(search, RandomSearch) and isinstance(earlier, RandomSearch):
        most = max(search.num_samples, earlier.num_samples)
        now = replace(now, search=replace(search, num_samples=most))
    return listed_victims(now)


def foreign_trials(sweep: Sweep, victims: Iterable[Victim], known: Collection[str], *, sets: TrialInputs) -> set[str]:
    """Those `known` digests that are no trial of a sweep: neither one of the `victims` nor one of its attacks on them.

    The name of a trial is its content: its fields, and the data, code, weights and secrets behind their names.
    """
    left = set(known)
    for victim in victims:
        if not left:
            break
        left.discard(trial_digest(Trial(victim=victim), sets))
        for _, attack in sweep.attack_specs if left else ():
            left.discard(trial_digest(Trial(victim=victim, attack=attack.resolve(victim)), sets))
    return left
