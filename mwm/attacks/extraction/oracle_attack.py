"""Attackers who ask an oracle: what it answers with, how often, and what network learns the answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from torch import nn

from mwm.attacks.access import BlackBoxAccess, Target, TargetFacts
from mwm.attacks.base import AttackRecord
from mwm.config.spec import Shown, spec
from mwm.models.answers import AnswerForm, check_forms, form_words, idle_for_labels
from mwm.models.build import Model, check_network
from mwm.oracle.oracle import LabelKind, Oracle


@spec
class OracleAttack(AttackRecord):
    """An attack by somebody who can ask the victim, and has no more of it than its answers.

    The victim's probabilities are put into the forms of `oracle` one after another: what a deployed model lets through.
    With soft `labels` the attacker is told the result, with hard ones the class that is likeliest in it. A `student`
    learns the answers: a network like the victim's, if it is left out.
    """

    strength: ClassVar[str] = "query_budget"

    labels: Annotated[LabelKind, Shown(always=True)] = "soft"
    oracle: Annotated[tuple[AnswerForm, ...], Shown()] = ()
    student: Annotated[Model | None, Shown("")] = None

    def __post_init__(self) -> None:
        idle = self.idle_forms()
        if idle and self.labels == "hard":
            reason = "hard answers name the likeliest class, and it does not disturb the order of classes"
            place = len(self.oracle) - len(idle)
            raise ValueError(f"oracle.{place}: {idle[0].kind!r} is not allowed: {reason}")

    def idle_forms(self) -> Sequence[AnswerForm]:
        """The last forms, as far as the likeliest class is the same after them."""
        first = idle_for_labels(self.oracle)
        return () if first is None else self.oracle[first:]

    @property
    @abstractmethod
    def allowance(self) -> int | None:
        """How many calls the attacker has; None for any number."""

    @property
    def answer_words(self) -> str:
        """What the victim answers with, in words: "soft, top_k 3, rounding 2"."""
        return ", ".join(filter(None, (self.labels, form_words(self.oracle))))

    def resolve(self, victim: Target) -> Self:
        """Fill in the student's network."""
        return replace(self, student=self.architecture(victim))

    def architecture(self, victim: Target) -> Model:
        """The student's."""
        return self.student or victim.model

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a form that would change no answer, or a network too deep for the images."""
        super().validate(facts)
        if facts.dataset is not None:
            shape, classes = facts.dataset.shape, facts.dataset.classes
            check_forms(self.oracle, (f"{facts.path}.oracle.{place}" for place in range(len(self.oracle))), classes)
            check_network(f"{facts.path}.student", self.architecture(facts.victim), shape=shape, classes=classes)

    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> BlackBoxAccess:
        """An oracle that answers as often as it is allowed to; no network of anybody's is in the attacker's hands."""
        answers: dict[str, Any] = {"forms": self.oracle, "calls": calls, "seed": common["seed"]}
        return BlackBoxAccess(oracle=Oracle(model, self.labels, self.allowance, **answers), **common | {"others": {}})
