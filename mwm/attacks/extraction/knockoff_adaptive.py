"""Knockoff with an adaptive choice: a gradient bandit over the classes of the attacker's images."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.extraction.rounds import Known, Lot, RoundsAttack
from mwm.attacks.sources import is_foreign
from mwm.config.spec import Count, Shown, spec
from mwm.data.host import select
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import CONSTANT, Recipe

TINY = 1e-12
"""What a chance is at least, so that classes with images left can always be drawn."""

"""The rate of a student that learns lot after lot."""

Reward = Literal["certainty", "diversity", "loss", "all"]


@dataclass(eq=False)
class Bandit:
    """A gradient bandit (Sutton and Barto, 2018), and the running means that its rewards need; all float64 on the host.

    `preferences` and `pulls` (K) of the actions; `rewards`, the mean so far; `answer` (C), the mean answer; `mean` and
    `variance` (3) of certainty, diversity and loss.
    """

    preferences: Tensor
    pulls: Tensor
    rewards: Tensor
    answer: Tensor
    mean: Tensor
    variance: Tensor

    @classmethod
    def fresh(cls, actions: int, classes: int) -> Self:
        """Before the first reward: every action is as likely."""
        sizes = (actions,), (actions,), (), (classes,), (3,), (3,)
        return cls(*(torch.zeros(size, dtype=torch.float64) for size in sizes))

    @classmethod
    def restored(cls, memory: dict[str, Tensor]) -> Self:
        """From what `memory` gave, which stays as it is."""
        return cls(**{name: value.cpu().clone() for name, value in memory.items()})

    def memory(self) -> dict[str, Tensor]:
        """All from which it goes on."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def learn(self, action: int, reward: float) -> None:
        """Prefer an action by how much better than the mean its reward is, and the others less."""
        policy = self.preferences.softmax(0)
        self.pulls[action] += 1
        self.rewards += (reward - self.rewards) / self.pulls.sum()
        gain = (reward - self.rewards) / self.pulls[action]
        self.preferences -= gain * policy
        self.preferences[action] += gain

    def reward(self, kind: Reward, answer: Tensor, guess: Tensor) -> float:
        """What an answer is worth: the victim's probabilities (C), the student's log-probabilities (C).

        Certainty is the first less the second probability. Diversity is by how much probabilities exceed their means.
        Loss is the student's cross-entropy. `all` is the mean of how many standard deviations each is above its mean;
        the first time, when there is none yet, of each cut to [0, 1].
        """
        count = self.pulls.sum() + 1
        self.answer += (answer - self.answer) / count
        first, second = answer.topk(2).values
        diversity = (answer - self.answer).clamp(min=0).sum()
        terms = torch.stack([first - second, diversity, -(answer * guess).sum()])
        if kind != "all":
            return terms[["certainty", "diversity", "loss"].index(kind)].item()
        self.mean += (terms - self.mean) / count
        self.variance += ((terms - self.mean).square() - self.variance) / count
        if count == 1:
            return terms.clamp(0, 1).mean().item()
        scores = (terms - self.mean) / self.variance.sqrt()
        return scores.where(self.variance > 0, 0.0).mean().item()


@spec
class KnockoffAdaptive(RoundsAttack):
    """Learn which classes of the attacker's images are worth a call (Orekondy et al., 2019).

    A gradient bandit draws `round_images` classes, and of each an image that was not asked; a class without any left is
    not drawn. The student goes on learning these for `round_epochs`, at the recipe's first rate. Then the victim's
    answers and the student's tell the reward of each draw, one after another. At the end a fresh student learns all.

    The classes are those of the attacker's own labels. Of images like the victim's these are the true labels. Those of
    another data set are its own, and tell nothing of the victim's classes: then no true label is known.
    """

    keeps_student: ClassVar[bool] = True

    kind: Literal["knockoff_adaptive"] = "knockoff_adaptive"
    reward: Annotated[Reward, Shown("reward {}", always=True)] = "all"
    round_images: Annotated[Count, Shown("{} a round")] = 32
    round_epochs: Annotated[Count, Shown("{} epochs a round")] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_below_budget("round_images", self.round_images)
        if self.labels == "hard" and self.reward == "certainty":
            raise ValueError("reward: 'certainty' is not allowed: hard answers are all as certain")

    def knows_labels(self) -> bool:
        """Whether its actions are the true labels of the victim's classes."""
        return not is_foreign(self.source)

    def round_recipe(self) -> Recipe:
        """The recipe at a constant rate: a schedule would begin anew with each lot."""
        return replace(super().round_recipe(), schedule=CONSTANT)

    def lots(self) -> list[int]:
        """As many images each time; fewer in the last."""
        size, budget = self.round_images, self.query_budget
        return [min(size, budget - done) for done in range(0, budget, size)]

    def choose(self, size: int, known: Known) -> Lot:
        """Learn from the rewards of the last lot, and draw the next."""
        labels = known.access.images.labels.cpu()
        if known.student is None:
            bandit = Bandit.fresh(int(labels.max()) + 1, known.access.classes)
        else:
            bandit = Bandit.restored(known.memory)
            self._learn(bandit, known, known.student)
        return Lot(_drawn(size, known, bandit.preferences.softmax(0)), bandit.memory())

    def _learn(self, bandit: Bandit, known: Known, student: nn.Module) -> None:
        """Reward each draw of the last lot, in its order."""
        rows, answers = (one[-self.round_images :] for one in (known.asked.rows, known.asked.answers))
        guesses = predict_logits(student, select(known.pool, rows)).double().log_softmax(1).cpu()
        soft = answers.double().exp() if answers.ndim > 1 else F.one_hot(answers, known.access.classes).double()
        actions = known.access.images.labels[rows].tolist()
        for action, answer, guess in zip(actions, soft.cpu(), guesses, strict=True):
            bandit.learn(action, bandit.reward(self.reward, answer, guess))


def _drawn(size: int, known: Known, policy: Tensor) -> Tensor:
    """Rows of images that were not asked (`size`), each of a class that is drawn by the policy (K)."""
    draw, rows = known.generator("actions"), known.unasked().cpu()
    rows = rows[torch.randperm(len(rows), generator=draw)]
    labels = known.access.images.labels.cpu()[rows]
    left = [rows[labels == action].tolist() for action in range(len(policy))]
    chosen = []
    for _ in range(size):
        there = torch.tensor([len(some) > 0 for some in left])
        action = int(torch.multinomial((policy + TINY) * there, 1, generator=draw))
        chosen.append(left[action].pop())
    return torch.tensor(chosen, device=known.pool.device)
