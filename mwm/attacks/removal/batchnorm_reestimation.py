"""Re-estimation of batch normalisation: the victim's weights, with statistics of clean images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.base import WhiteBoxAttack, check_batch_norm
from mwm.attacks.changes import epoch_of_change
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, spec
from mwm.training.batchnorm import CumulativeStatistics
from mwm.training.evaluation import predict_logits
from mwm.training.loop import Epoch


@spec
class BatchNormReestimation(WhiteBoxAttack):
    """Estimate the running statistics of batch normalisation anew, on clean images; no weight changes.

    `passes` over the attacker's images, augmented as in training, in batches of `batch_size`; the statistics are the
    cumulative average over all batches (momentum None in PyTorch). No gradient and no label is used. Where queries
    have shifted the victim's statistics (`batchnorm: reference`), this undoes it.
    """

    strength: ClassVar[str] = "passes"
    kind: Literal["batchnorm_reestimation"] = "batchnorm_reestimation"
    passes: Count = 3
    batch_size: Count = 128

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a network that keeps no statistics."""
        super().validate(facts)
        check_batch_norm(facts.path, self.kind, facts)

    def epochs(self) -> int:
        """One for each pass."""
        return self.passes

    def run(self, access: WhiteBoxAccess) -> Iterator[Epoch]:
        """Pass over the images, and yield each pass as an epoch that tells how far the network has moved."""
        before = predict_logits(access.model, access.images.images).argmax(1)
        estimated = Estimated(access.model, self.passes)
        if access.start is not None:
            estimated.restore(access.start)
        while estimated.epoch < self.passes:
            began = time.perf_counter()
            self._pass(estimated, access)
            yield epoch_of_change(estimated, access, before=before, began=began)

    def _pass(self, estimated: Estimated, access: WhiteBoxAccess) -> None:
        images, epoch = access.images.images, estimated.epoch
        order, views = (make_generator(access.seed, use, epoch, device=images.device) for use in ("order", "augment"))
        estimated.statistics.add_pass(images, access.augmentation, order=order, views=views, batch_size=self.batch_size)
        estimated.epoch += 1


class Estimated:
    """A network whose running statistics are being estimated; it satisfies `Trained`."""

    def __init__(self, model: nn.Module, passes: int) -> None:
        self.model, self.epochs, self.epoch = model, passes, 0
        self.statistics = CumulativeStatistics(model)
        self.deterministic = False

    @property
    def best_epoch(self) -> int:
        """The last one."""
        return self.epoch

    def state(self) -> dict[str, Any]:
        """The network, whose counters of batches are a part of it, and the passes done."""
        return {"model": self.model.state_dict(), "epoch": self.epoch}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` gave."""
        self.model.load_state_dict(state["model"])
        self.epoch = state["epoch"]
