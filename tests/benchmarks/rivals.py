"""Rivals that take turns, each in a process of its own: none shares an allocator, threads or flags with another.

While one works the others wait; before each turn there is a pause, in which the worker processes of a rival may fill
their queues (so a rival with workers gets that much for nothing, and disturbs nobody by it).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch

Turn = Callable[[], dict[str, float]]
"""Does a fixed piece of work and gives figures of it; seconds are taken by who calls."""

Samples = dict[str, list[dict[str, float]]]
"""For each rival its turns in order: `seconds` (per unit of work), and the figures of its own."""


@dataclass(frozen=True)
class Rival:
    """One side: what makes its turn, in its own process, and how many units of work (steps, epochs) a turn is."""

    name: str
    make: Callable[[], Turn]
    device: str
    threads: int
    units: int = 1


@dataclass(frozen=True)
class Seat:
    """A rival's process, and the pipe by which it is asked for turns."""

    rival: Rival
    process: BaseProcess
    pipe: Connection

    def ask(self) -> None:
        """Have it begin a turn."""
        self.pipe.send(True)

    def hear(self) -> dict[str, float]:
        """What its turn took and gave; RuntimeError if its process has ended."""
        try:
            figures: dict[str, float] = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.rival.name}: its process has ended, see its error above") from None
        return figures


@contextmanager
def seated(rivals: Sequence[Rival], warm: int) -> Iterator[list[Seat]]:
    """Start the rivals, then let each have `warm` turns that do not count; at the end, end them."""
    with ExitStack() as stack:
        seats = [stack.enter_context(_seat(rival)) for rival in rivals]
        for seat in seats:
            seat.hear()
        for seat in seats:
            for _ in range(warm):
                seat.ask()
                seat.hear()
        yield seats


@contextmanager
def _seat(rival: Rival) -> Iterator[Seat]:
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=_live, args=(theirs, rival))
    process.start()
    theirs.close()
    try:
        yield Seat(rival, process, ours)
    finally:
        ours.close()
        process.join(30)
        process.kill()


def _live(pipe: Connection, rival: Rival) -> None:
    """What a rival's process does."""
    # A spawned process spawns by default, and a DataLoader's workers would take seconds to import PyTorch anew; from a
    # command line they are forked.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(rival.threads)
    turn = rival.make()
    pipe.send({})
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(timed(turn, rival))


def timed(turn: Turn, rival: Rival) -> dict[str, float]:
    """One turn, and its seconds per unit of work. The clock stops when the device has done it all."""
    on_gpu = rival.device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize()
    began = time.perf_counter()
    figures = turn()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / rival.units
    memory = {"memory_mib": torch.cuda.max_memory_reserved() / 2**20} if on_gpu else {}
    return {"seconds": seconds, **memory, **figures}


def race(rivals: Sequence[Rival], *, rounds: int, warm: int, pause: float, limit: float = float("inf")) -> Samples:
    """All rivals' turns: one of each per round, every second round in reverse.

    After the first round none is begun that would end later than `limit` seconds after the start of all.
    """
    samples: Samples = {rival.name: [] for rival in rivals}
    assert len(samples) == len(rivals), "two rivals have one name"
    start = time.monotonic()
    with seated(rivals, warm) as seats:
        for number in range(rounds):
            began = time.monotonic()
            for seat in seats[:: -1 if number % 2 else 1]:
                time.sleep(pause)
                seat.ask()
                samples[seat.rival.name].append(seat.hear())
            now = time.monotonic()
            if now - start + (now - began) > limit:
                break
    return samples


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "low": low, "high": high}


def compared(samples: Samples, against: str) -> dict[str, dict[str, Any]]:
    """For each rival its seconds, and how many times faster it is than `against`.

    `ratio` is that of the medians; `ratios` are the median and quartiles of those of the same round.
    """
    slow, found = [turn["seconds"] for turn in samples[against]], {}
    for name, turns in samples.items():
        seconds = [turn["seconds"] for turn in turns]
        pairs = [theirs / ours for theirs, ours in zip(slow, seconds, strict=True)]
        ratio = float(np.median(slow) / np.median(seconds))
        found[name] = {"seconds": spread(seconds), "ratio": ratio, "ratios": spread(pairs)}
    return found
