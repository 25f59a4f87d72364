"""Suspects that are objects of this process: a network, or a function of images."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mwm.verification.suspects.in_process import InProcessSuspect
from mwm.verification.suspects.presentation import InputFormat

LiveSuspect = nn.Module | Callable[[NDArray[np.float32]], Any]
"""A network, or a function of float32 images (n c h w in [0, 1]) that gives labels or scores."""


def open_live(suspect: LiveSuspect, *, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """Ask an object as it is now. A network is known by its weights; what a function does is known to nobody."""
    if isinstance(suspect, nn.Module):
        identity = weights_identity(suspect)
        name = f"{type(suspect).__name__} {identity[:8]} in memory"
        return InProcessSuspect(name, "module", identity, classes, _in_evaluation(suspect), presentation=presentation)
    if not callable(suspect):
        raise ValueError(f"{type(suspect).__name__} is no suspect: give an address, a network or a function of images")
    name = f"{getattr(suspect, '__qualname__', type(suspect).__qualname__)} in memory"
    return InProcessSuspect(name, "callable", secrets.token_hex(32), classes, suspect, presentation=presentation)


def weights_identity(network: nn.Module) -> str:
    """64 hex digits of a network's structure and weights."""
    content = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        content.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        content.update(array.view(torch.uint8).numpy().tobytes() if array.ndim else repr(array.item()).encode())
    return content.hexdigest()


def _in_evaluation(network: nn.Module) -> Callable[[NDArray[np.float32]], Any]:
    """A network as a function of NumPy arrays: in evaluation mode while it is asked, on the device where it lies."""
    place = next(iter(network.parameters()), torch.empty(0)).device

    def ask(pixels: NDArray[np.float32]) -> Any:
        training = [module for module in network.modules() if module.training]
        network.eval()
        try:
            with torch.inference_mode():
                return network(torch.from_numpy(pixels).to(place))
        finally:
            for module in training:
                module.training = True

    return ask
