"""Attackers who ask an oracle and train a student on its answers: what all of them have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess, Target, TargetFacts
from mwm.attacks.base import image_count, recipe_path
from mwm.attacks.extraction.answers import flattened
from mwm.attacks.extraction.losses import distillation_kl
from mwm.attacks.extraction.oracle_attack import OracleAttack
from mwm.attacks.threat import ThreatModel
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, NonEmptyStr, Share, Shown, StrictBool, spec
from mwm.data.host import Images, in_batches
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.answers import TopK, is_normalized
from mwm.models.build import build_model, channel_statistics
from mwm.models.start import start_from
from mwm.training.evaluation import eval_batch_size
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch, Objective

Lesson = tuple[LabeledImages[Images], Callable[[Batch], Tensor]]
"""What a student is taught: images with their true labels, and the answers to a batch of them."""


@spec
class BlackBoxAttack(OracleAttack):
    """Extraction by a student with fresh random weights, from the answers of an oracle.

    `student` and `recipe` left out are the victim's; of the recipe, what it does to labels of images is left out.
    `augment` says whether images are learnt in further augmented views. `flatten` makes all probabilities but the
    largest equal, of any soft answers. `label_smoothing` is the share of the uniform distribution in what is learnt.

    Two fields follow the published code, which gives the attacker more than an attacker has. With `same_start` the
    student begins with the initial weights that the victim's seed gives its network: those of the victim, if both are
    one network. A recipe that keeps the epoch of `best_validation` judges by the owner's validation images.

    With `start` the student starts from the weights of a trained network in place of random ones, such as public ones:
    a file, an entry of the store or a model of MLflow, as for a victim.

    A kind of attack says what it asks, and what the student learns from the answers: `loss`.
    """

    query_budget: Annotated[Count | None, Shown("{} calls")] = None
    augment: Annotated[StrictBool, Shown("", off="unaugmented")] = True
    flatten: StrictBool = False
    recipe: Annotated[Recipe | None, Shown("")] = None
    label_smoothing: Annotated[Share, Shown("label smoothing {}")] = 0.0
    same_start: StrictBool = False
    start: Annotated[NonEmptyStr | None, Shown("from {}")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.flatten and self.labels == "hard":
            raise ValueError("flatten: true is not allowed: hard answers have no probabilities")
        if self.flatten and any(isinstance(form, TopK) and form.k == 1 for form in self.idle_forms()):
            raise ValueError("flatten: true is not allowed: top_k 1 leaves nothing but the largest probability")
        for name, instead in (("label_smoothing", "; write it at the attack"), ("mixup", "")):
            if self.recipe and (value := getattr(self.recipe, name)):
                reason = f"a student learns the answers to its images{instead}: must be 0"
                raise ValueError(f"recipe.{name}: {value} is not allowed: {reason}")
        if self.same_start and self.start is not None:
            raise ValueError("same_start: true is not allowed: the student starts from the weights of start")

    @abstractmethod
    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of a batch: the victim's answers, the student's logits (n C), the true labels (n)."""

    @abstractmethod
    def transfer_images(self, access: BlackBoxAccess) -> LabeledImages[Images]:
        """The images that the attacker asks for, or chooses from: its student is normalised as these are."""

    @property
    def asks_in_steps(self) -> bool:
        """Whether the oracle is asked in the steps of the student's training."""
        return False

    def adapted_to(self) -> str:
        """`flatten` answers what students of every scheme are proven by: second choices."""
        return "every scheme" if self.flatten else ""

    def resolve(self, victim: Target) -> Self:
        """Fill in the student's network, and the recipe up to its last epoch."""
        return replace(super().resolve(victim), recipe=self.recipe or self._recipe_like(victim))

    def _recipe_like(self, victim: Target) -> Recipe:
        """The victim's recipe, up to its last epoch, but for what it does to labels."""
        return replace(victim.recipe, keep="last", label_smoothing=0.0, mixup=0.0)

    def threat_model(self) -> ThreatModel:
        """Answers, and images of the attacker's own."""
        return ThreatModel(
            access="black box",
            images=self.source.kind,
            true_labels=self.knows_labels(),
            answers=self.answer_words,
            start="victim's initial weights" if self.same_start else "public weights" if self.start else "fresh",
            adaptive=self.adapted_to(),
        )

    def training_recipe(self) -> Recipe | None:
        """The student's recipe; None if it is the victim's."""
        return self.recipe

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a start that there is not, and for noise that would never change."""
        super().validate(facts)
        self._check_replay(facts)
        if self.same_start and facts.victim.start is not None:
            reason = "the victim starts from weights, and not from random ones"
            raise ValueError(f"{facts.path}.same_start: true is not allowed: {reason}")

    def _check_replay(self, facts: TargetFacts) -> None:
        """Refuse noise in a step that is replayed: it would be the same noise each time."""
        drawing = [place for place, form in enumerate(self.oracle) if form.draws]
        if drawing and self.asks_in_steps and self.resolve(facts.victim)._known_recipe.cuda_graph:
            reason = f"{recipe_path(self, facts)}.cuda_graph replays the step that asks, and draws no new noise"
            said = f"{facts.path}.oracle.{drawing[0]}: {self.oracle[drawing[0]].kind!r}"
            raise ValueError(f"{said} is not allowed: {reason}; allowed where all is asked before")

    def check_held(self, field: str, facts: TargetFacts) -> None:
        """Refuse more images, as a field says, than the attacker has to ask once each."""
        wanted, held = getattr(self, field), image_count(self.source, facts)
        if wanted is not None and held is not None and wanted > held:
            reason = f"the attacker has {held} images, each to be asked once"
            raise ValueError(f"{facts.path}.{field}: {wanted} is not allowed: {reason}")

    def check_budget(self, facts: TargetFacts, *, views: int = 1) -> None:
        """Refuse a budget whose answers, to so many views of each image, do not fill a batch."""
        least = -(-self.resolve(facts.victim)._known_recipe.batch_size // views)
        if self.query_budget is not None and self.query_budget < least:
            shared = f" over {views} views" if views > 1 else ""
            reason = f"must be at least {least}, {recipe_path(self, facts)}.batch_size{shared}"
            raise ValueError(f"{facts.path}.query_budget: {self.query_budget} is not allowed: {reason}")

    @property
    def _known_recipe(self) -> Recipe:
        """The student's recipe, of a resolved attack."""
        assert self.recipe is not None, "the student's recipe was never filled in"
        return self.recipe

    def network(self, access: BlackBoxAccess) -> nn.Module:
        """The student before its first epoch, normalised as the attacker's images are."""
        return self.fresh_student(access, self.transfer_images(access).images, access.seed)

    def fresh_student(self, access: BlackBoxAccess, images: Images, seed: int) -> nn.Module:
        """A student before its first epoch, normalised as some images are, whose random weights follow from a seed."""
        assert self.student is not None, "the student's network was never filled in"
        mean, std = channel_statistics(in_batches(images, eval_batch_size(images)))
        network = build_model(
            self.student,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            classes=access.classes,
            mean=mean,
            std=std,
            generator=make_generator(*((access.victim_seed, "victim") if self.same_start else (seed, "student"))),
        )
        if self.start is not None:
            start_from(network, self.student, access.starts[self.start])
        return network.to(images.device)

    def teach(self, training: TrainState, lesson: Lesson, access: BlackBoxAccess, *, seed: int) -> Iterator[Epoch]:
        """Train a student on a lesson until its recipe's last epoch, and yield each epoch."""
        part, _ = lesson
        augmentation = access.augmentation if self.augment else Augmentation()
        objective, validation = self.objective(lesson, access, training), access.validation
        return fit(training, part, objective, augmentation=augmentation, seed=seed, validation=validation)

    def answer_loss(self, answers: Tensor, logits: Tensor, *, temperature: float = 1.0) -> Tensor:
        """How far a student's logits (n C) are from answers: from log-probabilities (n C) by KL, from labels (n) by CE.

        Answers that the forms of the oracle leave unnormalised count by what they sum to.
        """
        if answers.ndim == 1:
            return F.cross_entropy(logits, answers, label_smoothing=self.label_smoothing)
        whole = is_normalized(self.oracle)
        return distillation_kl(answers, logits, temperature, smoothing=self.label_smoothing, weighted=not whole)

    def objective(self, lesson: Lesson, access: BlackBoxAccess, training: TrainState) -> Objective:
        """What the student learns in a step: unless said, by `loss`. `training` is where it stands at its first one."""
        del access, training
        _, ask = lesson

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            del generator
            return self.loss(self.as_taught(ask(batch)), model(batch.images), batch.labels)

        return objective

    def as_taught(self, answers: Tensor) -> Tensor:
        """Answers as the student is taught them: flattened, if that is asked for."""
        return flattened(answers) if self.flatten else answers
