"""Trained networks in the forms of others: files that need neither this package nor the code of the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from mwm.storage.redaction import in_one_line

IMAGES, LOGITS = "images", "logits"
"""What goes in and what comes out is called in ONNX and in MLflow."""

TRACED = 2
"""Images by which a network is followed: with one alone their number would be taken for a constant."""


def example_images(shape: tuple[int, int, int]) -> Tensor:
    """Grey images (2 c h w) of a `shape` (c, h, w), which show nothing of anybody's data."""
    return torch.full((TRACED, *shape), 0.5)


def write_torchscript(network: nn.Module, path: Path, shape: tuple[int, int, int]) -> None:
    """Write a network for images of a `shape` (c, h, w) as TorchScript; ValueError, in one line, if that fails."""
    with in_one_line("this network cannot be written as TorchScript"), _plain_attention(), torch.no_grad():
        traced = torch.jit.trace(network, example_images(shape), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)


def write_onnx(network: nn.Module, path: Path, shape: tuple[int, int, int]) -> None:
    """Write a network for images of a `shape` (c, h, w) as one file of ONNX, for any number of images at a time.

    Raises ValueError, in one line, if that fails.
    """
    with in_one_line("this network cannot be written as ONNX"), _plain_attention(), torch.no_grad():
        torch.onnx.export(
            network,
            (example_images(shape),),
            path,
            dynamo=False,
            input_names=[IMAGES],
            output_names=[LOGITS],
            dynamic_axes={IMAGES: {0: "n"}, LOGITS: {0: "n"}},
        )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Let transformers take the way of their training, of operators that every form knows."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
