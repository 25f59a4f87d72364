"""A sequence of attacks, each on the network that the one before ended with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Annotated, Any, Literal, Self

from torch import nn

from mwm.attacks.access import Access, Target, TargetFacts
from mwm.attacks.base import AttackRecord, recipe_path
from mwm.attacks.evasion import EvasionAttack
from mwm.attacks.extraction import ExtractionAttack
from mwm.attacks.removal import RemovalAttack
from mwm.attacks.sources import VictimData
from mwm.attacks.threat import ThreatModel
from mwm.config.randomness import derive_seed
from mwm.config.spec import DISCRIMINATED, Field, Shown, decode, encode, spec
from mwm.data.splits import SplitSizes
from mwm.models.build import Model
from mwm.models.deployed import Deployment
from mwm.training.loop import Epoch
from mwm.training.recipe import Recipe
from mwm.training.state import Trained

SingleAttack = ExtractionAttack | RemovalAttack | EvasionAttack
"""Every attack that may be a step of a sequence."""

Step = Annotated[SingleAttack, *DISCRIMINATED]

BEGINNING: dict[str, Any] = {"step": 0, "attacked": None, "inner": None, "ended": None, "running": 0}
"""Where a sequence stands: its step, the weights that this attacks, its state, the calls before it and of it."""


@dataclass(kw_only=True)
class Spent:
    """The oracle calls of a sequence: of the steps that ended, and by the access of the one under way."""

    ended: int | None = None
    running: Access | None = None

    @property
    def calls(self) -> int | None:
        """All of them; None where no step has asked an oracle."""
        running = None if self.running is None else self.running.calls
        told = [calls for calls in (self.ended, running) if calls is not None]
        return sum(told) if told else None


@dataclass(frozen=True, kw_only=True)
class SequenceAccess(Access):
    """The victim's network, of which each step is granted what its own threat model allows."""

    model: nn.Module
    spent: Spent = field(default_factory=Spent)

    @property
    def calls(self) -> int | None:
        """Those of all steps."""
        return self.spent.calls


@dataclass(frozen=True, kw_only=True)
class AttackedNetwork:
    """What a step attacks, in the place of a victim: `Target`."""

    data: Any
    split: SplitSizes
    model: Model
    recipe: Recipe
    start: None = None
    seed: None = None


@spec
class AttackSequence(AttackRecord):
    """Attacks one after another: each has the network that the step before ended with in the victim's place.

    The first use is repair, then theft: `batchnorm_reestimation` with the weights in hand, then `extraction` from the
    repaired network. What a step leaves to its victim follows the network that it attacks. All steps share the images
    of the sequence: `source` stands there, and not in a step. A step's chances follow from the seed of the sequence,
    its place and its own seed. Epochs are numbered through, and the oracle calls of all steps are counted.
    """

    kind: Literal["sequence"] = "sequence"
    steps: Annotated[tuple[Step, ...], Field(min_length=2), Shown()]

    def __post_init__(self) -> None:
        for place, step in enumerate(self.steps):
            if step.source != VictimData():
                reason = "the steps share the source of the sequence"
                raise ValueError(f"steps.{place}.source: {step.source.kind!r} is not allowed: {reason}")
            supplied = {} if _has_no_images(step) else {"source": encode(self.source)}
            decode(type(step), encode(step) | supplied, f"steps.{place}")
        for place in range(1, len(self.steps)):
            self._check_deployed(place)

    def _check_deployed(self, place: int) -> None:
        """Refuse a step that would change the weights of a network that is deployed."""
        step, deployed = self.steps[place], self._deployments_after(place)
        if deployed and _is_white_box(step) and not step.deployments():
            reason = f"the network is deployed with {deployed[-1].words}, and its weights are changed no more"
            allowed = "an attack that asks it, or another that deploys it"
            raise ValueError(f"steps.{place}: {step.kind!r} is not allowed: {reason}; allowed: {allowed}")

    def datasets(self) -> tuple[Any, ...]:
        """Those of the sequence, and of its steps."""
        return tuple(dict.fromkeys(chain(super().datasets(), *(step.datasets() for step in self.steps))))

    def resolve(self, victim: Target) -> Self:
        """The steps with all that they left to the networks that they attack filled in."""
        pairs = zip(self.steps, self._targets(victim), strict=True)
        return replace(self, steps=tuple(step.resolve(target) for step, target in pairs))

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a step that cannot be run on the network that it attacks."""
        super().validate(facts)
        for place, (step, target) in enumerate(zip(self.steps, self._targets(facts.victim), strict=True)):
            supplied, of_step = self._supplied(step), f"{facts.path}.steps.{place}"
            supplied.validate(replace(facts, path=of_step, victim=target))
            recipe, asked = supplied.resolve(target).training_recipe(), self._deployments_after(place)
            if recipe is not None and recipe.cuda_graph and asked:
                named = recipe_path(step, replace(facts, path=of_step))
                reason = f"{of_step} asks a network that is deployed with {asked[-1].words}, which cannot be recorded"
                raise ValueError(f"{named}.cuda_graph: true is not allowed: {reason}")

    def parts(self) -> dict[str, AttackRecord]:
        """The steps."""
        return {f"steps.{place}": step for place, step in enumerate(self.steps)}

    def threat_model(self) -> ThreatModel:
        """That of the first step, on the victim: the later ones attack a network of the attacker's own."""
        told = [step.threat_model() for step in self.steps]
        images = "none" if all(one.images == "none" for one in told) else self.source.kind
        known = dict.fromkeys(name for one in told for name in one.adaptive.split(", ") if name)
        return replace(told[0], images=images, true_labels=self.knows_labels(), adaptive=", ".join(known))

    def knows_labels(self) -> bool:
        """If any step does."""
        return any(self._supplied(step).knows_labels() for step in self.steps)

    def _supplied(self, step: Step) -> Step:
        """A step with the images of the sequence, if it has any."""
        return step if _has_no_images(step) else replace(step, source=self.source)

    def images_held(self, access: Access) -> int:
        """Those of the step that holds most."""
        return max(self._supplied(step).images_held(access) for step in self.steps)

    def other_seeds(self) -> tuple[int, ...]:
        """Those of all steps."""
        return tuple(dict.fromkeys(seed for step in self.steps for seed in step.other_seeds()))

    def architecture(self, victim: Target) -> Model:
        """The network of the last step."""
        *_, target = self._targets(victim)
        return self.steps[-1].architecture(target)

    def deployments(self) -> tuple[Deployment, ...]:
        """Those of the steps that deploy what the last step that asked has trained."""
        return self._deployments_after(len(self.steps))

    def _deployments_after(self, count: int) -> tuple[Deployment, ...]:
        """What stands around the network that the first `count` steps end with: who asks ends with one of its own."""
        found: tuple[Deployment, ...] = ()
        for step in self.steps[:count]:
            found = (*(found if _is_white_box(step) else ()), *step.deployments())
        return found

    def epochs(self) -> int:
        """Those of all steps."""
        return sum(step.epochs() for step in self.steps)

    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> SequenceAccess:
        """What the steps are granted from, each in its turn; the state of a sequence says itself what was spent."""
        del calls
        return SequenceAccess(model=model, **common)

    def network(self, access: SequenceAccess) -> nn.Module:
        """That of the last step."""
        return self._network_after(len(self.steps), access)

    def run(self, access: SequenceAccess) -> Iterator[Epoch]:
        """Run each step on the network before, and yield its epochs."""
        begun, spent = access.start or BEGINNING, access.spent
        first, weights, spent.ended = begun["step"], begun["attacked"], begun["ended"]
        for place in range(first, len(self.steps)):
            began = time.perf_counter()
            attacked = self._network_after(place, access)
            if weights is not None:
                attacked.load_state_dict(weights)
            left = begun if place == first else BEGINNING
            spent.running = self._grant_step(place, attacked, access, calls=left["running"], start=left["inner"])
            step: AttackRecord = self.steps[place]
            epochs = step.run(spent.running)
            waited = time.perf_counter() - began  # an attacker may ask before its first epoch
            for row in epochs:
                training = StepTraining(row.training, attack=self, place=place, attacked=weights, spent=spent)
                ended = self.steps[place].kind if row.epoch == step.epochs() else ""
                seconds = row.seconds + waited
                yield replace(row, training=training, epoch=training.epoch, seconds=seconds, step=ended)
                waited = 0.0
            weights, spent.ended, spent.running = training.model.state_dict(), spent.calls, None

    def _network_after(self, count: int, access: SequenceAccess) -> nn.Module:
        """A network of the kind that the first `count` steps end with; the victim's own after none."""
        network = access.model
        for place in range(count):
            step: AttackRecord = self.steps[place]
            network = step.network(self._grant_step(place, network, access))
        return network

    def _grant_step(
        self, place: int, model: nn.Module, access: SequenceAccess, *, calls: int = 0, start: Any = None
    ) -> Access:
        step = self.steps[place]
        common = {one.name: getattr(access, one.name) for one in fields(Access)}
        seed = derive_seed(access.seed, "step", place, step.seed)
        return step.grant(model, calls=calls, **common | {"seed": seed, "start": start})

    def _targets(self, victim: Target) -> Iterator[Target]:
        """What each step attacks."""
        target = victim
        for step in self.steps:
            yield target
            model = step.architecture(target)
            target = AttackedNetwork(data=victim.data, split=victim.split, model=model, recipe=victim.recipe)


def _has_no_images(step: AttackRecord) -> bool:
    return step.threat_model().images == "none"


def _is_white_box(step: AttackRecord) -> bool:
    return step.threat_model().access == "white box"


class StepTraining:
    """The training of a step, numbered as an epoch of the whole sequence; it satisfies `Trained`."""

    def __init__(
        self, training: Trained, *, attack: AttackSequence, place: int, attacked: dict[str, Any] | None, spent: Spent
    ) -> None:
        self._training, self._place, self._attacked, self._spent = training, place, attacked, spent
        before = sum(step.epochs() for step in attack.steps[:place])
        self.model, self.deterministic, self.epochs = training.model, training.deterministic, attack.epochs()
        self.epoch, self.best_epoch = before + training.epoch, before + training.best_epoch

    def state(self) -> dict[str, Any]:
        """Where the sequence stands: in this step, or before the next one where this one is finished."""
        if self._training.epoch == self._training.epochs:
            ended = {"attacked": self.model.state_dict(), "ended": self._spent.calls}
            return BEGINNING | {"step": self._place + 1} | ended
        running = self._spent.running.calls if self._spent.running else None
        here = {"attacked": self._attacked, "ended": self._spent.ended, "running": running or 0}
        return {"step": self._place, "inner": self._training.state()} | here
