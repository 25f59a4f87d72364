"""What only a GPU can do: steps that are replayed, or compiled for it, and the same bits twice."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from mwm.data.host import HostImages, picked
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.training.device import deterministic
from mwm.training.loop import fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import WARMUP_STEPS
from mwm.watermarks.schemes.none import clean_loss
from tests.helpers.engines import BATCH, MARKS, SMALL, apart, called, engine, go, network, some, state

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


def fed(*, on_host: bool, **speed: Any) -> TrainState:
    """A training of two epochs on a GPU, whose images lie there or on the host."""
    part, gpu = some(60), torch.device("cuda", 0)
    parts: list[LabeledImages[Any]] = [LabeledImages(part.images.to(gpu), part.labels.to(gpu))]
    parts.append(LabeledImages(HostImages(part.images.numpy(), np.arange(60), gpu), part.labels.to(gpu)))
    training = TrainState(network(SMALL).to(gpu), Recipe(epochs=2, batch_size=BATCH, lr=0.02, **speed))
    how = Augmentation(flip=True, pad=1)
    deque(fit(training, parts[on_host], clean_loss, augmentation=how, seed=1, validation=parts[on_host]), maxlen=0)
    return training


@pytest.mark.parametrize("speed", [{}, *SPEEDS], ids="+".join)
def test_images_from_the_host_train_the_same_network(speed: dict[str, Any]) -> None:
    host, device = (fed(on_host=on_host, **speed).model.state_dict() for on_host in (True, False))
    for name, value in device.items():
        torch.testing.assert_close(host[name], value, rtol=1e-5, atol=1e-6)


def test_batches_arrive_whole_and_in_order() -> None:
    part, gpu = some(500), torch.device("cuda", 0)
    hosted = HostImages(part.images.numpy(), np.arange(500), gpu)
    order = torch.randperm(500, device=gpu)
    assert torch.equal(torch.cat(list(picked(hosted, order, 7))).cpu(), part.images[order.cpu()])
    assert torch.equal(hosted.copied().cpu(), part.images)
