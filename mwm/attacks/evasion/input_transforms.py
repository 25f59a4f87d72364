"""Input transforms: every image is changed before the network sees it."""

from __future__ import annotations

from typing import Annotated, Literal

from mwm.attacks.access import TargetFacts
from mwm.attacks.evasion.deploying import EvasionAttack
from mwm.config.spec import Field, Shown, spec
from mwm.models.deployed import Deployment
from mwm.models.inputs import InputTransform


@spec
class InputTransforms(EvasionAttack):
    """Change every image that the network is asked about, by all `transforms` in turn (Lukas et al., 2022).

    Those who ask know nothing of it. What a mark rests on may be finer than what the transforms leave.
    """

    kind: Literal["input_transforms"] = "input_transforms"
    transforms: Annotated[tuple[InputTransform, ...], Field(min_length=1), Shown()]

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a transform that such images cannot have."""
        super().validate(facts)
        if facts.dataset is not None:
            for place, one in enumerate(self.transforms):
                one.check(f"{facts.path}.transforms.{place}", facts.dataset.shape[0])

    def deployment(self) -> Deployment:
        """The transforms."""
        return Deployment(inputs=self.transforms)
