"""How much arithmetic a step is, by PyTorch's counter, and how much of it a device can do at most.

Counted are the multiplications and additions of convolutions and products, as `torch.utils.flop_counter` counts them;
nothing is computed for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mwm.queries import QuerySet
from tests.benchmarks.ground import Ground
from tests.benchmarks.reference import Loop
from tests.benchmarks.rivals import Turn

SIDES = {"cpu": (32, 48), "cuda": (64, 96)}
"""Square roots of the sizes of the products; the larger product is 24 GFLOP on a CPU and 1.6 TFLOP on a GPU."""

REPEATS = 3
TYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


class Noted(nn.Module):
    """A network that notes what was counted before and after each of its passes."""

    def __init__(self, network: nn.Module, counter: FlopCounterMode) -> None:
        super().__init__()
        self.network, self.counter = network, counter
        self.marks: list[tuple[int, int]] = []

    def __call__(self, images: Tensor) -> Any:
        """Logits of images. A view of them, for the counter refuses inputs that slopes are asked for by name."""
        before = self.counter.get_total_flops()
        answers = self.network(images.view_as(images))
        self.marks.append((before, self.counter.get_total_flops()))
        return answers


def engine_operations(ground: Ground) -> dict[str, int]:
    """Operations of one step of the engine: the clean batch, the ascent, the queries, and the slopes of both."""
    images, labels, queries = _shapes(ground)
    with FlopCounterMode(display=False) as counter:
        network = Noted(ground.network().to("meta").train(), counter)
        objective = ground.margin.objective(queries)
        loss = objective(network, images, labels, torch.Generator())
        torch.autograd.backward(loss)
    (_, clean), *_, (climbed, held) = network.marks
    total = counter.get_total_flops()
    forward = {"clean forward": clean, "PGA": climbed - clean, "query forward": held - climbed}
    return {**forward, "backward": total - held, "total": total}


def reference_operations(ground: Ground) -> int:
    """Operations of one step of the published loop: in every ascent, it has the slopes of the weights as well."""
    images, labels, queries = _shapes(ground)
    margin = ground.margin
    loop = Loop(ground.network().to("meta"), queries.pixels, queries.labels, steps=margin.steps)
    assert isinstance(margin.queries_per_step, int)
    pick = torch.zeros(margin.queries_per_step, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        loop.learn(images, labels, pick, 0.1)
    total: int = counter.get_total_flops()
    return total


def _shapes(ground: Ground) -> tuple[Tensor, Tensor, QuerySet]:
    """A batch (float n c h w, labels n) and queries without content."""
    shape = ground.parts[0].images.shape[1:]
    labels = torch.zeros(ground.batch, dtype=torch.int64, device="meta")
    pixels = torch.zeros(len(labels), *shape, device="meta")
    held = ground.parts[2]
    empty = torch.zeros(held.images.shape, dtype=torch.uint8, device="meta")
    assigned = torch.zeros(len(held), dtype=torch.int64, device="meta")
    return pixels, labels, QuerySet(empty, assigned, assigned)


def products(device: str, kind: str, side: int) -> dict[str, Callable[[], Tensor]]:
    """A product of two square matrices of side² rows, as such and as a convolution of 1x1 in channels_last.

    On some processors the library of convolutions multiplies twice as fast as that of matrices.
    """
    n = side * side
    left, right = (torch.randn(n, n, device=device, dtype=TYPES[kind]) for _ in range(2))
    images = left.T.reshape(1, n, side, side).contiguous(memory_format=torch.channels_last)
    return {"mm": partial(torch.mm, left, right), "conv": partial(F.conv2d, images, right.T.reshape(n, n, 1, 1))}


def ceiling(device: str, kinds: Sequence[str], sides: Sequence[int]) -> Turn:
    """Operations per second that large products reach: the best of all sizes, both forms and some repeats."""
    where = "cuda" if device.startswith("cuda") else "cpu"
    work = {
        (kind, form, side): product
        for kind in kinds
        for side in sides
        for form, product in products(device, kind, side).items()
    }

    def turn() -> dict[str, float]:
        best: dict[str, float] = {}
        for (kind, form, side), product in work.items():
            rate = 2 * side**6 / min(_seconds(product, where) for _ in range(REPEATS))
            best[f"{kind} {form}"] = max(best.get(f"{kind} {form}", 0.0), rate)
        return best

    return turn


@torch.no_grad()
def _seconds(product: Callable[[], Tensor], where: str) -> float:
    times = 5 if where == "cuda" else 1
    if where == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        product()
    if where == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / times
