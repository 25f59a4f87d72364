"""Magnitude pruning: the smallest weights become zero."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import WhiteBoxAccess
from mwm.attacks.layers import weight_tensors
from mwm.attacks.removal.one_shot import OneShotAttack
from mwm.attacks.removal.zeros import smallest
from mwm.config.spec import Field, Shown, Strict, spec


@spec
class Pruning(OneShotAttack):
    """Make the share of weights with the smallest magnitudes zero, without training (Han et al., 2015).

    ceil(share n) of n weights: of each tensor, as Lukas et al. (2022) do, or with `scope: global` of all together.
    Weights are those of two dimensions or more. Biases, and whatever layers that normalise have, are left alone.
    """

    strength: ClassVar[str] = "share"
    kind: Literal["pruning"] = "pruning"
    share: Annotated[float, Strict(), Field(gt=0, lt=1), Shown("share {}", heading="share", always=True)] = 0.5
    scope: Annotated[Literal["tensor", "global"], Shown()] = "tensor"

    def uses_images(self) -> bool:
        """None are."""
        return False

    def change(self, model: nn.Module, access: WhiteBoxAccess) -> None:
        """Make weights zero."""
        del access
        weights = list(weight_tensors(model))
        flat: list[Tensor] = [weight.detach().abs().reshape(-1) for weight in weights]
        if self.scope == "global":
            marked = torch.split(smallest(torch.cat(flat), self.share), [len(one) for one in flat])
        else:
            marked = tuple(smallest(one, self.share) for one in flat)
        for weight, zero in zip(weights, marked, strict=True):
            weight.masked_fill_(zero.view(weight.shape), 0.0)
