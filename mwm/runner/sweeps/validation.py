"""What a sweep needs of its data, checked for every trial before anything is started."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import product

from mwm.runner.sweeps.sweep import Sweep
from mwm.training.recipe import Recipe
from mwm.trials.trial import TrialInputs, Victim, data_key
from mwm.trials.validation import (
    HERE,
    PlacedAttacks,
    Places,
    read_inputs,
    validate_attack,
    validate_victim,
)


def validate(sweep: Sweep, places: Places = HERE) -> tuple[TrialInputs, list[str]]:
    """Load every data set of a sweep, read its owners' secrets, and hold every trial against them.

    Without `download`, a set that is not on this machine is left out and becomes a note; what needs it goes unchecked.
    Raises ValueError with one line: the path of the offending key, its value and what is allowed.
    """
    _check_objectives(sweep)
    victims, attacks = sweep.victim_specs, sweep.attack_specs
    _check_graphs(sweep, victims, attacks)
    _check_workers(sweep, victims)
    for victim, (path, attack) in product(victims, attacks):
        validate_attack(
            path, attack, victim=victim, sets=TrialInputs({})
        )  # what needs no data is told before any is read
    sets, notes = read_inputs(victims, attacks, places)
    for victim in victims:
        if data_key(victim.data) in sets:
            validate_victim(victim, sets)
        for path, attack in attacks:
            validate_attack(path, attack, victim=victim, sets=sets)
    return sets, notes


def require_compiler(sweep: Sweep) -> None:
    """Refuse to compile networks for the processor of this machine where it has no C++ compiler.

    For trials that run here: of the nodes of a cluster that is joined, this machine knows nothing.
    """
    # As torch looks for it: another compiler that happens to be here is not used.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(next(iter(shlex.split(compiler)), "")):
        return
    for stage, path, recipe in _recipes(sweep.victim_specs, sweep.attack_specs):
        if recipe.compile and not getattr(sweep.resources, stage).gpus:
            reason = f"there is no C++ compiler {compiler!r} on this machine: install one, or name yours in CXX"
            raise ValueError(f"{path}.compile: true is not allowed: {reason}")


def _recipes(victims: Sequence[Victim], attacks: PlacedAttacks) -> Iterator[tuple[str, str, Recipe]]:
    """Every recipe that is trained by, with its stage and with its place in the file."""
    for victim in victims:
        yield "victim", "victim.recipe", victim.recipe
        every = ((f"{path}.{place}", part) for path, attack in attacks for place, part in attack.parts().items())
        for path, attack in (*attacks, *every):
            named = f"{path}.recipe" if attack.training_recipe() else "victim.recipe"
            if (recipe := attack.resolve(victim).training_recipe()) is not None:
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


def _check_workers(sweep: Sweep, victims: Sequence[Victim]) -> None:
    """Refuse victims that several workers cannot train."""
    workers = sweep.resources.victim.workers
    for recipe in (victim.recipe for victim in victims if workers > 1):
        for name in ("compile", "cuda_graph"):
            if getattr(recipe, name):
                raise ValueError(f"victim.recipe.{name}: true is not allowed with resources.victim.workers {workers}")
        for name, number in (("batch_size", recipe.batch_size), ("batchnorm_groups", recipe.batchnorm_groups)):
            if number % workers and (name, number) != ("batchnorm_groups", 1):
                allowed = f"must be a multiple of resources.victim.workers, {workers}"
                alone = ", or 1" if name == "batchnorm_groups" else ""
                raise ValueError(f"victim.recipe.{name}: {number} is not allowed: {allowed}{alone}")
