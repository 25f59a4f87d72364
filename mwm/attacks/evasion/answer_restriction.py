"""Answer restriction: whoever asks learns less than the network knows."""

from __future__ import annotations

from typing import Annotated, Literal

from mwm.attacks.access import TargetFacts
from mwm.attacks.evasion.deploying import EvasionAttack
from mwm.config.spec import Field, Shown, spec
from mwm.models.answers import AnswerForm, TopK, check_forms
from mwm.models.deployed import Deployment

LABEL = TopK(k=1, renormalize=True)
"""The label alone: a chance of 1 for the likeliest class, and of 0 for all others."""


@spec
class AnswerRestriction(EvasionAttack):
    """Give answers in other `forms`, one after another: by default the label alone.

    What a mark has left in the order of the other classes is then not told, and the test on first choices decides.
    """

    kind: Literal["answer_restriction"] = "answer_restriction"
    forms: Annotated[tuple[AnswerForm, ...], Field(min_length=1), Shown()] = (LABEL,)

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a form that would change no answer."""
        super().validate(facts)
        if facts.dataset is not None:
            paths = (f"{facts.path}.forms.{place}" for place in range(len(self.forms)))
            check_forms(self.forms, paths, facts.dataset.classes)

    def deployment(self) -> Deployment:
        """The forms."""
        return Deployment(answers=self.forms)
