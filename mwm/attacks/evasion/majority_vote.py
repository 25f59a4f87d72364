"""Majority vote: every question is put to the network several times, a little changed."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from mwm.attacks.evasion.deploying import EvasionAttack
from mwm.config.spec import Field, NonNegativeFloat, NonNegativeInt, Shown, Strict, spec
from mwm.models.deployed import Deployment, Votes


@spec
class MajorityVote(EvasionAttack):
    """Answer with the vote of the network on several `copies` of an image.

    Each copy has Gaussian noise of a deviation `noise` and is shifted by up to `shift` pixels: this is how randomised
    smoothing predicts (Cohen et al., 2019), with shifts beside the noise. The answer is the share of the copies that
    name each class (`by: labels`), or the mean of their probabilities.
    """

    strength: ClassVar[str] = "noise"
    kind: Literal["majority_vote"] = "majority_vote"
    copies: Annotated[int, Strict(), Field(ge=2), Shown("{} copies", always=True)] = 9
    noise: NonNegativeFloat = 0.03
    shift: NonNegativeInt = 1
    by: Annotated[Literal["labels", "probabilities"], Shown("by {}")] = "labels"

    def __post_init__(self) -> None:
        self.deployment()

    def deployment(self) -> Deployment:
        """The votes."""
        return Deployment(votes=Votes(copies=self.copies, noise=self.noise, shift=self.shift, by=self.by))
