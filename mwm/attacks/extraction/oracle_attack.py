"""Attackers who ask an oracle: what it answers with, and how often."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from torch import nn

from mwm.attacks.access import BlackBoxAccess, TargetFacts
from mwm.attacks.base import AttackRecord
from mwm.config.spec import Shown, spec
from mwm.models.answers import AnswerForm, form_words, idle_for_labels
from mwm.oracle.oracle import LabelKind, Oracle


@spec
class OracleAttack(AttackRecord):
    """An attack by somebody who can ask the victim, and has no more of it than its answers.

    The victim's probabilities are put into the forms of `oracle` one after another: what a deployed model lets through.
    With soft `labels` the attacker is told the result, with hard ones the class that is likeliest in it.
    """

    strength: ClassVar[str] = "query_budget"

    labels: Annotated[LabelKind, Shown(always=True)] = "soft"
    oracle: Annotated[tuple[AnswerForm, ...], Shown()] = ()

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

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a form that means nothing over the victim's classes."""
        super().validate(facts)
        if facts.dataset is not None:
            for place, form in enumerate(self.oracle):
                form.check(f"{facts.path}.oracle.{place}", facts.dataset.classes)

    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> BlackBoxAccess:
        """An oracle that answers as often as it is allowed to."""
        answers: dict[str, Any] = {"forms": self.oracle, "calls": calls, "seed": common["seed"]}
        return BlackBoxAccess(oracle=Oracle(model, self.labels, self.allowance, **answers), **common)
