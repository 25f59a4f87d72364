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
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mwm.training.step import Batch
from mwm.watermarks.queries import QuerySet
from tests.benchmarks.ground import Ground
from tests.benchmarks.reference import Loop
from tests.benchmarks.rivals import Turn

SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Rows and columns of the large matrices; the larger product is 17 GFLOP on a CPU and 1.1 TFLOP on a GPU."""

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
        loss = objective(network, Batch(images, labels, labels), torch.Generator())
        torch.autograd.backward(loss)
    (_, clean), *_, (climbed, held) = network.marks
    total = counter.get_total_flops()
    forward = {"clean forward": clean, "PGA": climbed - clean, "query forward": held - climbed}
    return {**forward, "backward": total - held, "total": total}


def reference_operations(ground: Ground) -> int:
    """Operations of one step of the published loop: in every ascent, it has the slopes of the weights as well."""
    images, labels, queries = _shapes(ground)
    margin = ground.margin
    loop = Loop(ground.network().to("meta"), queries.float_images, queries.labels, steps=margin.steps)
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
    """A product of two square matrices; on a CPU also by oneDNN, with one of them in the layout that it likes.

    PyTorch's own product of float32 matrices has less than half the rate of oneDNN's, which convolutions use, on AMD's.
    """
    left, right = (torch.randn(side, side, device=device, dtype=TYPES[kind]) for _ in range(2))
    forms: dict[str, Callable[[], Tensor]] = {"mm": partial(torch.mm, left, right)}
    if not device.startswith("cuda"):
        packed = torch.ops.mkldnn._reorder_linear_weight(right.T.contiguous(), side)
        forms["oneDNN"] = partial(torch.ops.mkldnn._linear_pointwise, left, packed, None, "none", [], "")
    return forms


def ceiling(device: str, kinds: Sequence[str], sides: Sequence[int]) -> Turn:
    """Operations per second that large products reach: the best of all sizes, forms and some repeats."""
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
            rate = 2 * side**3 / min(_seconds(product, where) for _ in range(REPEATS))
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
