"""What every attack says of itself: its images, the access that it needs, what it leaves to its victim."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, ClassVar, Self

from torch import nn

from mwm.attacks.access import Access, Target, TargetFacts, WhiteBoxAccess
from mwm.attacks.sources import Disjoint, Source, VictimData, is_foreign
from mwm.attacks.threat import ThreatModel
from mwm.config.spec import Seed, spec
from mwm.models.build import Model, has_batch_norm
from mwm.models.deployed import Deployment
from mwm.training.loop import Epoch
from mwm.training.recipe import Recipe


@spec
class AttackRecord(ABC):
    """An attack: a record that a line of YAML fills. A new kind is a subclass in a file of its own.

    `strength` is the dotted path of the field that says how strong an attack of a kind is: attacks that differ in it
    alone are one curve. It is empty where no field does.
    """

    strength: ClassVar[str] = ""
    source: Source = VictimData()
    seed: Seed = 0

    def datasets(self) -> tuple[Any, ...]:
        """The records of the data sets that the attacker needs beside the victim's."""
        return (self.source,) if is_foreign(self.source) else ()

    def resolve(self, victim: Target) -> Self:
        """The attack with all that it left to its victim filled in."""
        del victim
        return self

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError, in one line, for what cannot be run: the path, the value, what is allowed."""
        self._check_foreign(facts)
        if isinstance(self.source, Disjoint) and facts.victim.split.disjoint == 0:
            reason = "victim.split.disjoint is 0, give it a share above 0"
            raise ValueError(f"{facts.path}.source: disjoint is not allowed: {reason}")

    def _check_foreign(self, facts: TargetFacts) -> None:
        """Refuse the victim's own data set as another one: the owner's secret images are among its images."""
        for name, value in vars(self).items():
            if value in self.datasets() and facts.is_victims(value):
                reason = "it is the victim's data set, with the images of the key"
                allowed = "victim_data, disjoint or another data set" if name == "source" else "another data set"
                raise ValueError(f"{facts.path}.{name}: {value.kind!r} is not allowed: {reason}; allowed: {allowed}")

    @abstractmethod
    def threat_model(self) -> ThreatModel:
        """What the attacker is given."""

    def knows_labels(self) -> bool:
        """Whether the attacker uses the true labels of its images."""
        return False

    def images_held(self, access: Access) -> int:
        """How many images the attacker holds, of those that it is given."""
        return 0 if self.threat_model().images == "none" else len(access.images)

    def adapted_to(self) -> str:
        """The schemes whose definition the attacker uses, without the key, or "every scheme"; empty for none."""
        return ""

    def other_seeds(self) -> tuple[int, ...]:
        """Seeds of victims of somebody else, like this one but unmarked, whom the attacker asks, too."""
        return ()

    def parts(self) -> dict[str, AttackRecord]:
        """The attacks that it consists of, by their places below its own; none where it is one."""
        return {}

    def deployments(self) -> tuple[Deployment, ...]:
        """What stands around the network that the attacker ends with, the innermost first; nothing for most.

        A network that is deployed is asked, and changed no more.
        """
        return ()

    def training_recipe(self) -> Recipe | None:
        """The recipe by which it trains itself; None if it trains nothing, or leaves the recipe to its victim."""
        return None

    @abstractmethod
    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> Access:
        """The access that the attacker gets to a victim's network; `calls` were spent before an interruption."""

    @abstractmethod
    def network(self, access: Any) -> nn.Module:
        """A network of the kind that the attacker ends with, on the images' device: its weights are not yet those."""

    @abstractmethod
    def run(self, access: Any) -> Iterator[Epoch]:
        """Attack, and yield each epoch; the network of the last one is what the attacker ends with."""

    @abstractmethod
    def epochs(self) -> int:
        """How many epochs a resolved attack takes."""

    @abstractmethod
    def architecture(self, victim: Target) -> Model:
        """The network that the attacker ends with."""


@spec
class WhiteBoxAttack(AttackRecord):
    """An attack by somebody who holds the victim's weights, and changes them."""

    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> WhiteBoxAccess:
        """A copy of the victim's network."""
        del calls
        return WhiteBoxAccess(model=deepcopy(model).requires_grad_(True), **common)

    def uses_images(self) -> bool:
        """Whether the attack needs images, and does not only report on them."""
        return True

    def threat_model(self) -> ThreatModel:
        """The weights, and images of the attacker's own where any are used."""
        return ThreatModel(
            access="white box",
            images=self.source.kind if self.uses_images() else "none",
            true_labels=self.knows_labels(),
            answers="",
            start="victim's weights",
            adaptive=self.adapted_to(),
        )

    def network(self, access: WhiteBoxAccess) -> nn.Module:
        """The copy."""
        return access.model

    def architecture(self, victim: Target) -> Model:
        """The victim's."""
        return victim.model


def check_batch_norm(path: str, said: str, facts: TargetFacts, *, allowed: str = "") -> None:
    """Refuse what is `said` of batch normalisation at `path`, where the victim's network has none."""
    model, dataset = facts.victim.model, facts.dataset
    if dataset is not None and not has_batch_norm(model, dataset.shape, dataset.classes):
        raise ValueError(f"{path}: {said} is not allowed: {model.label} has no batch norm{allowed}")


def image_count(source: Source, facts: TargetFacts) -> int | None:
    """How many images the attacker has; None if they are not on this machine."""
    if is_foreign(source):
        dataset = facts.datasets.get(source)
        return None if dataset is None else len(dataset.y_train)
    if facts.dataset is None:
        return None
    counts = facts.victim.split.counts(len(facts.dataset.y_train))
    return counts.disjoint if isinstance(source, Disjoint) else counts.owner


def check_batch_size(attack: AttackRecord, facts: TargetFacts, *, learnt: Callable[[int], int] = int) -> None:
    """Refuse a batch that the attacker's images do not fill; of those that it has, `learnt` says how many it learns."""
    held, recipe = image_count(attack.source, facts), attack.resolve(facts.victim).training_recipe()
    assert recipe is not None, "the attack's recipe was never filled in"
    if held is not None and recipe.batch_size > (count := learnt(held)):
        named = recipe_path(attack, facts)
        reason = f"the attacker of {facts.path} {'has' if count == held else 'learns'} {count} images"
        raise ValueError(f"{named}.batch_size: {recipe.batch_size} is not allowed: {reason}")


def recipe_path(attack: AttackRecord, facts: TargetFacts) -> str:
    """Where the user wrote the recipe of an attack."""
    return f"{facts.path}.recipe" if attack.training_recipe() else "victim.recipe"
