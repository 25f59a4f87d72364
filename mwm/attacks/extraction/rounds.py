"""Extraction in rounds: ask, learn, choose or make what to ask next."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess, TargetFacts
from mwm.attacks.extraction.answers import named_labels
from mwm.attacks.extraction.black_box import BlackBoxAttack, Lesson
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import Count, Field, Shown, spec
from mwm.data.host import Images, in_batches, select
from mwm.data.splits import LabeledImages
from mwm.training.device import deterministic
from mwm.training.evaluation import eval_batch_size
from mwm.training.loop import Epoch
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """All that was asked, in its order, each image once.

    Rows of the attacker's images (int64 k), then images that it made (uint8 m c h w); answers to all of them.
    """

    rows: Tensor
    made: Tensor
    answers: Tensor

    @classmethod
    def nothing(cls, pool: Images) -> Self:
        """Before the first call."""
        rows = torch.empty(0, dtype=torch.int64, device=pool.device)
        made = torch.empty(0, *pool.shape[1:], dtype=torch.uint8, device=pool.device)
        return cls(rows, made, torch.empty(0, device=pool.device))

    @classmethod
    def restored(cls, state: dict[str, Tensor], device: torch.device) -> Self:
        """From what `state` gave."""
        return cls(*(state[name].to(device) for name in ("rows", "made", "answers")))

    def state(self) -> dict[str, Tensor]:
        """All of it."""
        return {"rows": self.rows, "made": self.made, "answers": self.answers}

    def __len__(self) -> int:
        return len(self.answers)

    def images(self, pool: Images) -> Images:
        """What was asked; `pool` are the attacker's images."""
        taken = select(pool, self.rows)
        return torch.cat([*in_batches(taken, eval_batch_size(taken)), self.made]) if len(self.made) else taken

    def with_rows(self, rows: Tensor, answers: Tensor) -> Asked:
        """The same, and then some of the attacker's images."""
        assert not len(self.made), "images of the attacker's come before those that it makes"
        return replace(self, rows=torch.cat([self.rows, rows]), answers=self._and(answers))

    def with_made(self, images: Tensor, answers: Tensor) -> Asked:
        """The same, and then some images that were made."""
        return replace(self, made=torch.cat([self.made, images]), answers=self._and(answers))

    def _and(self, answers: Tensor) -> Tensor:
        return torch.cat([self.answers, answers]) if len(self) else answers

    def lesson(self, pool: Images, first: int = 0) -> Lesson:
        """The answers from the `first` on; in the place of true labels stand those that the answers name."""
        answers, rows = self.answers[first:], torch.arange(first, len(self), device=pool.device)
        part = LabeledImages(select(self.images(pool), rows), named_labels(answers))
        return part, lambda batch: answers[batch.index]


@dataclass(frozen=True, eq=False)
class Lot:
    """What is asked next: rows of the attacker's images (int64 k), or images that it made (uint8 k c h w).

    `memory` is what the attacker keeps in mind for the next choice.
    """

    chosen: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an attacker knows when it chooses lot `number`: all answers so far, and a student of them but at first."""

    access: BlackBoxAccess
    number: int
    asked: Asked
    student: nn.Module | None
    memory: dict[str, Tensor]

    @property
    def pool(self) -> Images:
        """The attacker's images."""
        return self.access.images.images

    def unasked(self) -> Tensor:
        """The rows of those that were never asked, in their order."""
        left = torch.ones(len(self.pool), dtype=torch.bool, device=self.pool.device)
        left[self.asked.rows] = False
        return left.nonzero().squeeze(1)

    def generator(self, use: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for a use in this choice."""
        return make_generator(self.access.seed, use, self.number, device=device)


@spec
class RoundsAttack(BlackBoxAttack):
    """An attack that asks in lots of images, and chooses each by a student of what it knows so far.

    Before each lot but the first a student learns for `round_epochs`, or for as many epochs as the recipe has. After
    the last one a fresh student learns all answers by the recipe. The `query_budget` is never exceeded, an image of the
    attacker's is never asked twice, and a resumed attack asks nothing again. Where fewer answers are there than a batch
    holds, they are one batch.

    A kind of attack says how large its lots are, and what is in them.
    """

    held_field: ClassVar[str] = "query_budget"
    keeps_student: ClassVar[bool] = False

    query_budget: Annotated[Count, Shown("{} calls")] = Field()
    round_epochs: Annotated[Count | None, Shown("{} epochs a round")] = None

    @abstractmethod
    def lots(self) -> list[int]:
        """How many images are asked in each lot."""

    @abstractmethod
    def choose(self, size: int, known: Known) -> Lot:
        """The next lot, of so many images."""

    @property
    def allowance(self) -> int:
        """The budget."""
        return self.query_budget

    def transfer_images(self, access: BlackBoxAccess) -> LabeledImages[Images]:
        """All that the attacker chooses from."""
        return access.images

    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """How far the student is from the answers."""
        del truth
        return self.answer_loss(answers, logits)

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for more images than the attacker has, and for a budget below a batch."""
        super().validate(facts)
        self.check_held(self.held_field, facts)
        self.check_budget(facts)

    def epochs(self) -> int:
        """Those of all students."""
        return (len(self.lots()) - 1) * self.round_recipe().epochs + self._known_recipe.epochs

    def round_recipe(self) -> Recipe:
        """How a student learns that only serves to choose."""
        recipe = self._known_recipe
        return replace(recipe, epochs=self.round_epochs or recipe.epochs)

    def check_below_budget(self, field: str, size: int) -> None:
        """Refuse a first lot, of a size by a field, that leaves nothing to choose."""
        if size >= self.query_budget:
            reason = f"must be above {field}, {size}: nothing is left to choose"
            raise ValueError(f"query_budget: {self.query_budget} is not allowed: {reason}")

    def run(self, access: BlackBoxAccess) -> Iterator[Epoch]:
        """Ask, learn and choose, and yield the epochs of all students."""
        lots, begun, pool = self.lots(), access.start, access.images.images
        asked, memory, training = Asked.nothing(pool), dict[str, Tensor](), None
        for number in range(begun["lot"] if begun else 0, len(lots)):
            began = time.perf_counter()
            if begun:
                asked, memory = Asked.restored(begun["asked"], pool.device), begun["memory"]
            else:
                student = None if training is None else training.model
                known = Known(access=access, number=number, asked=asked, student=student, memory=memory)
                asked, memory = self._ask(lots[number], known)
            last = number == len(lots) - 1
            lesson = asked.lesson(pool, len(asked) - lots[number] if self.keeps_student and not last else 0)
            seed = access.seed if last else derive_seed(access.seed, "lot", number)
            recipe = (self._known_recipe if last else self.round_recipe()).filled_by(len(lesson[0]))
            training = self._student(recipe, access, seed=seed, before=None if last else training)
            if begun:
                training.restore(begun["inner"])
            begun, waited = None, time.perf_counter() - began
            place = {"lot": number, "asked": asked.state(), "memory": memory}
            for row in self.teach(training, lesson, access, seed=seed):
                shown = RoundTraining(training, place, before=number * self.round_recipe().epochs, epochs=self.epochs())
                yield replace(row, training=shown, epoch=shown.epoch, seconds=row.seconds + waited)
                waited = 0.0

    def _ask(self, size: int, known: Known) -> tuple[Asked, dict[str, Tensor]]:
        """All answers with those to the next lot, and what is kept in mind."""
        oracle, pool = known.access.oracle, known.pool
        with deterministic(self._known_recipe.deterministic):
            lot = self.choose(size, known)
            assert len(lot.chosen) == size, f"{len(lot.chosen)} images in a lot of {size}"
            if lot.chosen.ndim == 1:
                answers = oracle.ask_all(select(pool, lot.chosen))
                return known.asked.with_rows(lot.chosen, answers), lot.memory
            return known.asked.with_made(lot.chosen, oracle.ask_all(lot.chosen)), lot.memory

    def _student(self, recipe: Recipe, access: BlackBoxAccess, *, seed: int, before: TrainState | None) -> TrainState:
        """A student of some answers: a fresh one, or the one `before` where that goes on learning."""
        if before is None or not self.keeps_student:
            return TrainState(self.fresh_student(access, self.transfer_images(access).images, seed), recipe)
        training = TrainState(before.network, recipe)
        training.restore(before.state() | {"epoch": 0, "best": (-1.0, 0), "best_weights": None})
        return training


def random_order(access: BlackBoxAccess) -> Tensor:
    """The rows of all images in the order of an attacker who chooses nothing, as `transfer_set` draws them."""
    order = torch.randperm(len(access.images), generator=make_generator(access.seed, "budget"))
    return order.to(access.images.labels.device)


class RoundTraining:
    """The training of a student, numbered as an epoch of the whole attack; it satisfies `Trained`."""

    def __init__(self, training: TrainState, place: dict[str, Any], *, before: int, epochs: int) -> None:
        self._training, self._place = training, place
        self.model, self.deterministic, self.epochs = training.model, training.deterministic, epochs
        self.epoch, self.best_epoch = before + training.epoch, before + training.best_epoch

    def state(self) -> dict[str, Any]:
        """All that was asked, what is kept in mind, and how far the student is."""
        return self._place | {"inner": self._training.state()}
