"""Networks that take one number of images at a time, and do not say which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, network, opened_here, scores
from tests.unit.verification.suspects.test_network_files import example, quiet

RIGHT = scores(network())


class Rigid(nn.Module):
    """A network that is traced for the batch size of the example alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = int(x.shape[0])
        return torch.cat([self.inner(one) for one in x.chunk(count)]).reshape(count, CLASSES)


@pytest.mark.parametrize("frozen", [False, True], ids=["traced", "frozen"])
@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_a_network_traced_for_one_batch_size_is_asked_that_way(size: int, frozen: bool, tmp_path: Path) -> None:
    with quiet():
        traced = torch.jit.trace(Rigid().eval(), example(size))  # type: ignore[no-untyped-call]
        (torch.jit.freeze(traced) if frozen else traced).save(tmp_path / "net.pt")
    with pytest.raises(RuntimeError):
        traced(torch.zeros(size + 1, *SHAPE))
    suspect = opened_here(tmp_path / "net.pt")
    assert np.abs(suspect(IMAGES) - RIGHT).max() < 1e-5
    with pytest.raises(ValueError, match=r"net\.pt: failed on images of shape \(1, 3, 6, 6\)"):
        opened_here(tmp_path / "net.pt", shape=(3, 6, 6))
