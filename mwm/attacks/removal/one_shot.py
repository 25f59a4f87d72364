"""Changes of weights that take no training: an attack of a single epoch."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import nn

from mwm.attacks.access import WhiteBoxAccess
from mwm.attacks.base import WhiteBoxAttack
from mwm.attacks.changes import epoch_of_change
from mwm.config.spec import spec
from mwm.training.evaluation import predict_logits
from mwm.training.loop import Epoch
from mwm.training.state import Finished


@spec
class OneShotAttack(WhiteBoxAttack):
    """Change the victim's weights at once. Its one epoch tells how far the network has moved."""

    def epochs(self) -> int:
        """One."""
        return 1

    @abstractmethod
    def change(self, model: nn.Module, access: WhiteBoxAccess) -> None:
        """Change the network in its place; no gradient is kept."""

    def run(self, access: WhiteBoxAccess) -> Iterator[Epoch]:
        """Change the network, and yield that as an epoch."""
        began = time.perf_counter()
        before = predict_logits(access.model, access.images.images).argmax(1)
        with torch.no_grad():
            self.change(access.model, access)
        yield epoch_of_change(Finished(access.model), access, before=before, began=began)
