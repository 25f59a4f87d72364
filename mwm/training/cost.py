"""How long a pass through a network takes on this machine, before anything is trained."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from mwm.data.images import to_float

LONG_ENOUGH_SECONDS = 0.05
"""A clock that was watched for so long is believed."""


def seconds_per_image(network: nn.Module, images: Tensor, *, threads: int) -> float:
    """Seconds that a step of plain training spends on an image: forward, and back to all weights, on the processor.

    By steps on up to the given images (uint8 n c h w): on two first, then on twice as many each time, until a step is
    long enough to be measured. The processor's own time counts, so that other work on the machine does not. The weights
    stay as they are.
    """
    before, count = torch.get_num_threads(), 2
    torch.set_num_threads(threads)
    try:
        network.train()
        _step_seconds(network, images[:count])  # memory is taken, and kernels are chosen: it does not count
        while True:
            taken = _step_seconds(network, images[:count]) / threads
            if taken >= LONG_ENOUGH_SECONDS or count >= len(images):
                return taken / min(count, len(images))
            count *= 2
    finally:
        torch.set_num_threads(before)


def _step_seconds(network: nn.Module, images: Tensor) -> float:
    shown = to_float(images)
    began = time.process_time()
    weights = [one for one in network.parameters() if one.requires_grad]
    with torch.random.fork_rng(devices=[]):  # layers may draw
        torch.autograd.grad(network(shown).square().sum(), weights, allow_unused=True)
    return time.process_time() - began
