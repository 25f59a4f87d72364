"""What a sweep needs of its data, checked for every trial before anything is started."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence

from mwm.runner.sweeps.sweep import Sweep, attack_specs, victim_specs
from mwm.training.recipe import Recipe
from mwm.trials.trial import TrialInputs, Victim, data_key, fill_attack_defaults
from mwm.trials.validation import (
    PlacedAttacks,
    _check_attack,
    _check_repeats,
    _check_victim,
    _load,
    _required_datasets,
    _secret,
)


def validate(sweep: Sweep, *, download: bool) -> tuple[TrialInputs, list[str]]:
    """Load every data set of a sweep, read its owners' secrets, and hold every trial against them.

    Without `download`, a set that is not on this machine is left out and becomes a note; what needs it goes unchecked.
    Raises ValueError with one line: the path of the offending key, its value and what is allowed.
    """
    _check_objectives(sweep)
    victims, attacks = victim_specs(sweep), attack_specs(sweep)
    _check_graphs(sweep, victims, attacks)
    _check_repeats(victims, attacks)
    loaded, notes = _load(_required_datasets(victims, attacks), download)
    sets = TrialInputs(loaded, {one.secret: _secret(one.secret) for one in victims if one.secret is not None})
    for victim in victims:
        if data_key(victim.data) in sets:
            _check_victim(victim, sets)
        for path, attack in attacks:
            _check_attack(path, attack, victim=victim, sets=sets)
    return sets, notes


def require_compiler(sweep: Sweep) -> None:
    """Refuse to compile networks for the processor of this machine where it has no C++ compiler.

    For trials that run here: of the nodes of a cluster that is joined, this machine knows nothing.
    """
    # As torch looks for it: another compiler that happens to be here is not used.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(next(iter(shlex.split(compiler)), "")):
        return
    for stage, path, recipe in _recipes(victim_specs(sweep), attack_specs(sweep)):
        if recipe.compile and not getattr(sweep.resources, stage).gpus:
            reason = f"there is no C++ compiler {compiler!r} on this machine: install one, or name yours in CXX"
            raise ValueError(f"{path}.compile: true is not allowed: {reason}")


def _recipes(victims: Sequence[Victim], attacks: PlacedAttacks) -> Iterator[tuple[str, str, Recipe]]:
    """Every recipe that is trained by, with its stage and with its place in the file."""
    for victim in victims:
        yield "victim", "victim.recipe", victim.recipe
        for path, attack in attacks:
            named = f"{path}.recipe" if attack.recipe else "victim.recipe"
            recipe = fill_attack_defaults(attack, victim).recipe
            assert recipe is not None, "the student's recipe was never filled in"
            yield "attack", named, recipe


def _check_objectives(sweep: Sweep) -> None:
    for name in getattr(sweep.search, "objectives", ()):
        if name.startswith(("worst", "mean")) and not sweep.attacks:
            raise ValueError(f"search.objectives: {name} is not allowed: there are no attacks that it could tell of")


def _check_graphs(sweep: Sweep, victims: Sequence[Victim], attacks: PlacedAttacks) -> None:
    for stage, path, recipe in _recipes(victims, attacks):
        if recipe.cuda_graph and not getattr(sweep.resources, stage).gpus:
            reason = f"resources.{stage}.gpus is 0, and only a GPU replays a step"
            raise ValueError(f"{path}.cuda_graph: true is not allowed: {reason}")
