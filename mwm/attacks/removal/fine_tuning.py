"""Fine-tuning: the victim's own network, trained further on clean images."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import nn

from mwm.attacks.access import WhiteBoxAccess
from mwm.attacks.layers import last_layer
from mwm.attacks.removal.tuning import TaughtImages, TuningAttack
from mwm.config.spec import Shown, spec


@spec
class FineTuning(TuningAttack):
    """Train the victim's network further: its last layer alone (FTLL), or all layers (FTAL; Adi et al., 2018).

    Running statistics are `updated` even where only the last layer is tuned, as in the published code, unless they are
    `frozen`. The two differ where the victim's statistics are damaged: see `batchnorm_reestimation`.
    """

    kind: Literal["fine_tuning"] = "fine_tuning"
    layers: Annotated[Literal["last", "all"], Shown(always=True)] = "all"

    def prepare(self, model: nn.Module, access: WhiteBoxAccess, images: TaughtImages) -> None:
        """Freeze all but the last layer, if that alone is tuned."""
        del access
        if self.layers == "last":
            model.requires_grad_(False)
            last_layer(model, images.images).requires_grad_(True)
