"""What only a GPU can do: steps that are replayed, or compiled for it, and the same bits twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mwm.training.device import deterministic
from mwm.training.step import WARMUP_STEPS
from tests.helpers.engines import MARKS, SMALL, apart, called, engine, go, state

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation:UserWarning"),
]

SPEEDS: list[dict[str, Any]] = [{"cuda_graph": True}, {"cuda_graph": True, "compile": True}, {"compile": True}]


@pytest.fixture(autouse=True)
def exact() -> Any:
    """No short cut in the arithmetic: what is compared is how it is launched."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with deterministic(True):
        yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("speed", SPEEDS, ids="+".join)
@pytest.mark.parametrize("scheme", MARKS, ids=called)
def test_replayed_steps_end_where_plain_ones_end(scheme: Any, speed: dict[str, Any]) -> None:
    slow, fast = engine(SMALL, scheme, "cuda"), engine(SMALL, scheme, "cuda", **speed)
    for made in (slow, fast):
        go(made, 20)
    assert apart(fast, slow) <= 1e-5
    assert float(fast.total) == pytest.approx(float(slow.total), rel=1e-5)


def test_a_second_epoch_of_replays_draws_anew() -> None:
    slow, fast = engine(SMALL, device="cuda"), engine(SMALL, device="cuda", cuda_graph=True)
    for made in (slow, fast):
        for epoch in range(2):
            made.start_epoch(5, epoch)
            go(made, WARMUP_STEPS + 2)
    assert apart(fast, slow) <= 1e-5


def test_a_deterministic_gpu_gives_the_same_bits_twice() -> None:
    ends = []
    for _ in range(2):
        made = engine(SMALL, device="cuda", cuda_graph=True)
        go(made, 20)
        ends.append(state(made))
    assert torch.equal(*ends)
