"""One training on several workers: each learns its share of every batch, and all of them take the same step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

BUCKET_BYTES = 2**25
"""How much is averaged over the workers in one message: enough to be worth one, and little to be copied for it."""


@dataclass(frozen=True)
class BatchShare:
    """Which part of every batch a worker learns: without workers, all of it.

    A batch is cut into `pieces` of nearly equal size, a multiple of the `workers`, and the worker of a `rank` learns
    as many of them, side by side, as every other. Workers talk by the default process group of torch.distributed.
    """

    rank: int = 0
    workers: int = 1
    pieces: int = 1

    def of(self, rows: Tensor) -> Tensor:
        """The rows (of n ...) that this worker learns, in their order; none is copied. It may be none at all."""
        if self.workers == 1:
            return rows
        own = self.pieces // self.workers
        size, more = divmod(len(rows), self.pieces)
        first, end = (piece * size + min(piece, more) for piece in (self.rank * own, (self.rank + 1) * own))
        return rows[first:end]

    def mean(self, losses: Tensor, total: int) -> Tensor:
        """What this worker adds to a mean over `total` losses, if its own are `losses` (n): the average of it over all
        workers is that mean.
        """
        return losses.mean() if self.workers == 1 else losses.sum() * (self.workers / total)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Put in place of each tensor its average over all workers, who all call this with tensors of equal layout."""
        if self.workers > 1:
            messages = [(bucket, _flat(bucket)) for bucket in _buckets(tensors)]
            sent = [dist.all_reduce(flat, async_op=True) for _, flat in messages]
            for (bucket, flat), one in zip(messages, sent, strict=True):
                assert one is not None, "asked for in the background"
                one.wait()
                parts = torch.split(flat.div_(self.workers), [tensor.numel() for tensor in bucket])
                torch._foreach_copy_([_in_memory(tensor) for tensor in bucket], list(parts))

    def gather(self, row: Tensor) -> Tensor:
        """The rows (m) of all workers (workers m), in the order of their ranks.

        A few numbers are summed in this way, too: gloo takes twice as long to reduce them.
        """
        every = row.new_empty(self.workers, len(row))
        dist.all_gather(list(every), row)
        return every

    def take_first(self, tensors: Iterable[Tensor]) -> None:
        """Put in place of each tensor that of the first worker."""
        if self.workers > 1:
            for tensor in tensors:
                dist.broadcast(_in_memory(tensor), 0)

    def require_same(self, number: int, device: torch.device) -> None:
        """Raise RuntimeError unless all workers begin with the same number of epochs done."""
        if self.workers > 1 and ((begun := self.gather(torch.tensor([number], device=device))) != number).any():
            raise RuntimeError(f"workers go on from different epochs: {begun.flatten().tolist()}")


WHOLE = BatchShare()
"""The share of who trains alone."""

SILENCE_S = 600.0
"""How long a worker waits for another one in a step before it gives up."""


def open_meeting(host: str) -> TCPStore:
    """Where workers find one another: it lives in this process, at the address `host` and a port of its own."""
    return TCPStore(host, 0, is_master=True, wait_for_workers=False)


def find_meeting(host: str, port: int) -> TCPStore:
    """The meeting that another process has opened."""
    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=SILENCE_S))


@contextmanager
def joined(meeting: Store, share: BatchShare, device: torch.device) -> Iterator[None]:
    """Be one of the workers that share a training: by NCCL on GPUs, by gloo on CPUs; waits for all of them."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    limit = timedelta(seconds=SILENCE_S)
    dist.init_process_group(backend, store=meeting, rank=share.rank, world_size=share.workers, timeout=limit)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one kind of number that go together in a message."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        bucket = kinds.setdefault(tensor.dtype, [])
        bucket.append(tensor)
        if sum(one.numel() * one.element_size() for one in bucket) >= BUCKET_BYTES:
            yield kinds.pop(tensor.dtype)
    yield from kinds.values()


def _flat(bucket: list[Tensor]) -> Tensor:
    return torch.cat([_in_memory(tensor) for tensor in bucket])


def _in_memory(tensor: Tensor) -> Tensor:
    """All numbers of a tensor (n) as they lie in memory: no layout is copied into another one."""
    return tensor.as_strided((tensor.numel(),), (1,))
