"""Fine-tuning: the victim's own network, trained further on clean images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.layers import head_of, last_layer, redraw, require_head, weight_tensors
from mwm.attacks.removal.tuning import TaughtImages, TuningAttack
from mwm.attacks.removal.zeros import hold_at_zero
from mwm.config.randomness import make_generator
from mwm.config.spec import Shown, StrictBool, spec


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

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a last layer that cannot be drawn anew."""
        super().validate(facts)
        if self.reinitialize:
            require_head(f"{facts.path}.reinitialize", "true", facts)

    def prepare(self, model: nn.Module, access: WhiteBoxAccess, images: TaughtImages) -> None:
        """Draw the last layer anew, hold zeros, and freeze other layers, as far as that is asked for."""
        if self.reinitialize:
            redraw(head_of(model, images.images), make_generator(access.seed, "reinitialize"))
        if self.keep_zeros:
            for weight in weight_tensors(model):
                hold_at_zero(weight, weight.detach() == 0)
        if self.layers == "last":
            model.requires_grad_(False)
            last_layer(model, images.images).requires_grad_(True)
