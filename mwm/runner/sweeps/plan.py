"""What the victims of a sweep will be given, told before anything is started: images, steps, visits, time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

import torch

from mwm.config.errors import shortened
from mwm.data.datasets import Dataset
from mwm.data.splits import MOST, SplitSizes, class_counts
from mwm.models.build import Model, build_model, channel_statistics, has_batch_norm
from mwm.runner.sweeps.sweep import TrialResources
from mwm.training.cost import seconds_per_image
from mwm.trials.names import duration, trial_name
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key
from mwm.watermarks.plan import TrainingPlan, doubts, plan_training

CLASSES_SHOWN = 10
TIMED_IMAGES = 128
"""A network is timed on so many images at most."""

Seconds = Callable[[Victim], float]
"""The seconds that a plain step of a victim's training spends on an image."""


def plan_lines(victims: Sequence[Victim], sets: TrialInputs, taken: TrialResources) -> list[str]:
    """Who gets what, and what each training is: lines for every victim whose data are here, each told once.

    A victim that takes no GPU is timed: one step of each network, on as many threads as its workers will have.
    """
    timed = None if taken.gpus else _stopwatch(sets, max(1, int(taken.cpus)) * taken.workers)
    dealt = cache(lambda key, split: tuple(_split_lines(split, sets[key])))
    told: dict[tuple[str, ...], dict[str, dict[str, None]]] = {}
    for victim in _here(victims, sets):
        plan = _plan(victim, sets)
        trainings = told.setdefault(dealt(data_key(victim.data), victim.split), {})
        trainings.setdefault(_recipe_line(victim, plan), {})[_victim_line(victim, plan, timed)] = None
    lines: list[str] = []
    for split, trainings in told.items():
        lines += [*split, *(line for recipe, names in trainings.items() for line in (recipe, *names))]
    return lines


def plan_warnings(victims: Sequence[Victim], sets: TrialInputs) -> list[str]:
    """What cannot work, of the victims whose data are here: each doubt once, with those that it is of."""
    told: dict[str, list[str]] = {}
    for victim in _here(victims, sets):
        dataset = sets[data_key(victim.data)]
        known: Any = {
            "batch_norm": has_batch_norm(victim.model, dataset.shape, dataset.classes),
            "trained": victim.start is not None,
        }
        for line in doubts(victim.scheme, _plan(victim, sets), **known):
            told.setdefault(line, []).append(_name(victim))
    return [f"warning: {line} ({shortened([*dict.fromkeys(names)])})" for line, names in told.items()]


def _here(victims: Sequence[Victim], sets: TrialInputs) -> list[Victim]:
    return [victim for victim in victims if data_key(victim.data) in sets]


def _plan(victim: Victim, sets: TrialInputs) -> TrainingPlan:
    counts = victim.split.counts(len(sets[data_key(victim.data)].y_train))
    return plan_training(victim.scheme, victim.recipe, counts)


def _split_lines(split: SplitSizes, dataset: Dataset) -> Iterator[str]:
    yield f"victim.split: of {len(dataset.y_train)} training images"
    for role, held in class_counts(dataset, split).items():
        if sum(held):
            usual = f", by default a tenth and {MOST} at most" if getattr(split, role, 0) is None else ""
            yield f"  {role}: {sum(held)}{usual}; {_by_class(held)}"


def _by_class(held: Sequence[int]) -> str:
    if len(held) > CLASSES_SHOWN:
        return f"{min(held)} to {max(held)} of each class"
    return f"by class {', '.join(map(str, held))}"


def _recipe_line(victim: Victim, plan: TrainingPlan) -> str:
    batch, epochs = _said(victim.recipe, "batch_size"), _said(victim.recipe, "epochs")
    each = f"{plan.steps_per_epoch} steps an epoch, of {batch} images each"
    return f"victim.recipe: {each}; {plan.steps} steps in {epochs} epochs"


def _victim_line(victim: Victim, plan: TrainingPlan, timed: Seconds | None) -> str:
    """How often each query of a victim is shown, and what its training costs; victims of other seeds have the same."""
    visits = ""
    if plan.queries:
        shown = victim.scheme.parts()[0]
        drawn, queries = _said(shown, "queries_per_step"), _said(shown, "num_queries")
        visits = f"a step shows {drawn} of {queries} queries, each is shown {plan.visits:g} times; "
    return f"  {_name(victim)}: {visits}{_cost(victim, plan, timed)}"


def _said(record: Any, name: str) -> str:
    """A value, and whether it is the default."""
    value = getattr(record, name)
    usual = next(field.default for field in fields(record) if field.name == name)
    return f"{value} (default)" if value == usual else str(value)


def _name(victim: Victim) -> str:
    return trial_name(Trial(victim=victim)).rpartition(" seed ")[0]


def _cost(victim: Victim, plan: TrainingPlan, timed: Seconds | None) -> str:
    step = f"a step costs {plan.cost:.2f} plain ones" if plan.queries else "plain steps"
    if timed is None:
        return f"{step}; the time on a GPU is not estimated"
    epoch = timed(victim) * plan.cost * plan.steps_per_epoch * victim.recipe.batch_size
    whole = duration(epoch * victim.recipe.epochs)
    return f"{step}: {victim.model.label} takes about {epoch:.2g} s an epoch on this machine, {whole} for all"


def _stopwatch(sets: TrialInputs, threads: int) -> Seconds:
    """Times each network once for each data set."""

    @cache
    def taken(model: Model, key: str) -> float:
        dataset = sets[key]
        images = torch.tensor(dataset.x_train[:TIMED_IMAGES])
        mean, std = channel_statistics(images)
        how: dict[str, Any] = {"shape": dataset.shape, "classes": dataset.classes, "mean": mean, "std": std}
        network = build_model(model, **how, generator=torch.Generator().manual_seed(0))
        return seconds_per_image(network, images, threads=threads)

    return lambda victim: taken(victim.model, data_key(victim.data))
