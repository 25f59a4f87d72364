"""Several trainings on one device at a time: what k of them get done together, against one alone.

Each of the k is a process of its own with a k-th of the device's memory (or of the threads, on a CPU), as a trial with
`gpus: 1/k` is. They start together and step for some seconds, `--rounds` times; then the next k.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.ground import Ground, add_ground, engine_name, ground_of, parsed
from tests.benchmarks.reference import RATE
from tests.benchmarks.rivals import Rival, Turn, seated, spread
from tests.benchmarks.sides import engine_of, picks

AHEAD = 8
"""Steps after which a training waits for the device: none may queue more than its seconds hold."""


def training(ground: Ground, name: str, *, share: float, seconds: float) -> Turn:
    """Steps for so many seconds, within a `share` of the device's memory."""
    if ground.device.startswith("cuda"):
        torch.cuda.set_per_process_memory_fraction(share)
    engine, batches = engine_of(ground, ground.recipe(name)), picks(ground)
    engine.start_epoch(ground.seed, 0)

    def turn() -> dict[str, float]:
        steps, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(AHEAD if ground.device.startswith("cuda") else 1):
                engine.step(next(batches), RATE)
                steps += 1
            engine.total.item()
        return {"steps": float(steps)}

    return turn


def packed(ground: Ground, name: str, count: int, *, seconds: float, rounds: int) -> list[float]:
    """Steps a second of `count` trainings together, for each round."""
    threads = max(1, ground.threads // count)
    make = partial(training, ground, name, share=1 / count, seconds=seconds)
    rivals = [Rival(f"training {number}", make, ground.device, threads) for number in range(count)]
    rates = []
    with seated(rivals, warm=1) as seats:
        for _ in range(rounds):
            for seat in seats:
                seat.ask()
            heard = [seat.hear() for seat in seats]
            rates.append(sum(one["steps"] / one["seconds"] for one in heard))
    return rates


def measured(
    ground: Ground, engines: Sequence[str], counts: Sequence[int], *, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """For each engine and number of trainings: steps a second of all together, and how often that of the first."""
    found: list[dict[str, Any]] = []
    for name in engines:
        alone = 0.0
        for count in counts:
            rates = packed(ground, name, count, seconds=seconds, rounds=rounds)
            middle = spread(rates)
            alone = alone or middle["median"]
            found.append({"engine": name, "trainings": count, "rates": rates, "rate": middle})
            found[-1]["gain"] = middle["median"] / alone
    return found


def table(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A line for each engine and number of trainings."""
    return [
        (
            one["engine"],
            str(one["trainings"]),
            f"{one['rate']['median']:.1f}",
            f"{one['rate']['low']:.1f}-{one['rate']['high']:.1f}",
            f"{one['gain']:.2f}",
        )
        for one in found
    ]


def command_line() -> argparse.ArgumentParser:
    """What may be asked."""
    command = parser(__doc__)
    add_ground(command, model="resnet18")
    command.add_argument("--engine", action="append", type=engine_name, help="may be given several times")
    command.add_argument("--trainings", type=int, nargs="+", default=[1, 2, 4], metavar="K")
    command.add_argument("--turn", type=float, default=5.0, help="seconds of a round")
    command.add_argument("--rounds", type=int, default=3)
    return command


def main() -> None:
    """Measure and print."""
    asked = parsed(command_line())
    ground, here = ground_of(asked, images=10 * asked.batch), machine(asked.device)
    engines = asked.engine or ["bf16"]
    found = measured(ground, engines, asked.trainings, seconds=asked.turn, rounds=asked.rounds)
    title = f"{asked.model}, batch {asked.batch}, {asked.device}: {asked.rounds} rounds of {asked.turn:g} s"
    show(title, ("engine", "trainings", "steps a second", "quartiles", "against the first"), table(found))
    what = {"device": here.get("gpu", "cpu"), "exercise": asked.exercise, "ground": ground.said()}
    publish(asked.output, here, {**what, "packing": found})


if __name__ == "__main__":
    main()
