"""Evasion: the stolen network stays as it is, and what stands around it answers whoever asks."""

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
from mwm.models.deployed import Deployed, Deployment
from mwm.training.evaluation import predict_logits
from mwm.training.loop import Epoch
from mwm.training.state import Finished


@spec
class EvasionAttack(WhiteBoxAttack):
    """Deploy the victim's network so that a key finds less: no weight changes, in a single epoch.

    A kind says what stands around the network (`deployment`), and what is learnt for it from the attacker's images
    (`prepare`), if anything is (`uses_images`).
    """

    def uses_images(self) -> bool:
        """Unless a kind says so, it does not."""
        return False

    @abstractmethod
    def deployment(self) -> Deployment:
        """What stands around the network."""

    def prepare(self, deployed: Deployed, access: WhiteBoxAccess) -> None:
        """Learn what the deployment needs from the attacker's images; no gradient is kept."""

    def deployments(self) -> tuple[Deployment, ...]:
        """The one."""
        return (self.deployment(),)

    def network(self, access: WhiteBoxAccess) -> nn.Module:
        """The copy as it is deployed, before it has learnt anything."""
        return Deployed(access.model, self.deployment(), access.seed)

    def epochs(self) -> int:
        """One."""
        return 1

    def run(self, access: WhiteBoxAccess) -> Iterator[Epoch]:
        """Deploy the network, and yield that as an epoch."""
        began = time.perf_counter()
        before = predict_logits(access.model, access.images.images).argmax(1)
        deployed = Deployed(access.model, self.deployment(), access.seed)
        with torch.no_grad():
            self.prepare(deployed, access)
        yield epoch_of_change(Finished(deployed), access, before=before, began=began)
