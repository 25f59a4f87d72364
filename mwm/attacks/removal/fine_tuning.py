"""Fine-tuning: the victim's own network, trained further on clean images."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from mwm.attacks.access import WhiteBoxAccess
from mwm.attacks.layers import last_layer, weight_tensors
from mwm.attacks.removal.tuning import TaughtImages, TuningAttack
from mwm.attacks.removal.zeros import hold_at_zero
from mwm.config.randomness import derive_seed
from mwm.config.spec import Shown, StrictBool, spec
from mwm.training.device import global_draws


@spec
class FineTuning(TuningAttack):
    """Train the victim's network further: its last layer alone, or all layers (FTLL and FTAL; Adi et al., 2018).

    With `reinitialize` the last layer is drawn anew before, and no other one (RTLL and RTAL). With `keep_zeros` weights
    that are zero at the beginning stay zero: what `pruning` has cut is trained around, as Han et al. (2015) do.

    Running statistics are `updated` even where only the last layer is tuned, as in the published code, unless they are
    `frozen`. The two differ where the victim's statistics are damaged: see `batchnorm_reestimation`.
    """

    strength: ClassVar[str] = "recipe.epochs"
    kind: Literal["fine_tuning"] = "fine_tuning"
    layers: Annotated[Literal["last", "all"], Shown(always=True)] = "all"
    reinitialize: StrictBool = False
    keep_zeros: StrictBool = False

    def prepare(self, model: nn.Module, access: WhiteBoxAccess, images: TaughtImages) -> None:
        """Draw the last layer anew, hold zeros, and freeze other layers, as far as that is asked for."""
        if self.reinitialize:
            draw_anew(last_layer(model, images.images), access.seed)
        if self.keep_zeros:
            for weight in weight_tensors(model):
                hold_at_zero(weight, weight.detach() == 0)
        if self.layers == "last":
            model.requires_grad_(False)
            last_layer(model, images.images).requires_grad_(True)


def draw_anew(layer: nn.Module, seed: int) -> None:
    """Give a layer fresh weights, as PyTorch draws them for its kind: the same on every device."""
    fresh: Any = deepcopy(layer).cpu()
    if not hasattr(fresh, "reset_parameters"):
        reason = f"the last layer, {type(layer).__name__}, has no reset_parameters"
        raise ValueError(f"reinitialize: true is not allowed: {reason}")
    with global_draws(derive_seed(seed, "reinitialize"), torch.device("cpu")):
        fresh.reset_parameters()
    layer.load_state_dict(fresh.state_dict())
