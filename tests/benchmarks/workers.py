"""One training on several workers against one on one, with as many threads together: the same steps, by turns.

Each side is a process, or one process for each worker that talk by gloo. All wait while the other side works. The data
are noise of CIFAR's shape, the scheme is the published margin, or none with `--clean`. `throughput` is that of the
workers over that of the one. CPU seconds of a step, of the busiest process, tell also where others use the processor.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from mwm.training.batchnorm import shared_statistics
from mwm.training.parallel import WHOLE, BatchShare, find_meeting, joined, open_meeting
from mwm.training.state import TrainState
from mwm.training.step import TrainStep
from mwm.watermarks.schemes import Unwatermarked
from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.ground import Ground, add_ground, ground_of, parsed
from tests.benchmarks.reference import RATE
from tests.benchmarks.rivals import Rival, Seat, Turn, seated, spread
from tests.benchmarks.sides import engine_of, picks

HOST = "127.0.0.1"


def stepping(ground: Ground, share: BatchShare, *, port: int, block: int, clean: bool, groups: int) -> Turn:
    """`block` steps of a worker a turn, or of a training that is alone."""
    together = ExitStack()
    if share.workers > 1:
        together.enter_context(joined(find_meeting(HOST, port), share, torch.device(ground.device)))
    plain, batches = engine_of(ground, replace(ground.recipe("float32"), batchnorm_groups=groups)), picks(ground)
    objective = Unwatermarked().objective(ground.parts[2]) if clean else plain.objective
    training = TrainState(plain.training.network, plain.training.recipe)
    engine = TrainStep(training, plain.part, objective, augmentation=ground.augmentation, share=share)
    engine.start_epoch(ground.seed, 0)

    def turn(held: ExitStack = together) -> dict[str, float]:
        del held  # until the process ends
        engine.total.zero_()
        began = time.process_time()
        with shared_statistics(training.network, engine.share, groups):
            for _ in range(block):
                engine.step(next(batches), RATE)
        engine.share.average([engine.total])
        loss = engine.total.item() / block
        return {"loss": loss, "cpu": (time.process_time() - began) / block}

    return turn


def heard(seats: Sequence[Seat]) -> dict[str, float]:
    """What a side took for its turn: as long as its slowest process."""
    for seat in seats:
        seat.ask()
    told = [seat.hear() for seat in seats]
    return {"loss": told[0]["loss"], **{what: max(one[what] for one in told) for what in ("seconds", "cpu")}}


def measured(
    ground: Ground, workers: int, *, block: int, rounds: int, pause: float = 0.0, clean: bool = False, groups: int = 1
) -> dict[str, Any]:
    """Seconds a step of both sides, in turn, after one turn each that does not count."""
    meeting = open_meeting(HOST)
    how: dict[str, Any] = {"port": meeting.port, "block": block, "clean": clean, "groups": groups}
    shares = [WHOLE, *(BatchShare(rank, workers) for rank in range(workers))]
    rivals = [
        Rival(f"{share.workers}.{share.rank}", partial(stepping, ground, share, **how), ground.device, threads, block)
        for share in shares
        for threads in [max(1, ground.threads // share.workers)]
    ]
    turns: dict[str, list[dict[str, float]]] = {"one": [], "several": []}
    with seated(rivals, warm=0) as seats:
        sides = {"one": seats[:1], "several": seats[1:]}
        for number in range(rounds + 1):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                time.sleep(pause)
                turns[name].append(heard(sides[name]))
    seconds = {name: [turn["seconds"] for turn in told[1:]] for name, told in turns.items()}
    pairs = [one / several for one, several in zip(seconds["one"], seconds["several"], strict=True)]
    ratio = float(np.median(seconds["one"]) / np.median(seconds["several"]))
    return {"throughput": ratio, "in_pairs": spread(pairs), "turns": turns}


def main() -> None:
    """Measure and print."""
    command = parser(__doc__)
    add_ground(command, model="resnet18")
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--block", type=int, default=2, help="steps a turn")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--pause", type=float, default=0.5, help="seconds before each turn")
    command.add_argument("--clean", action="store_true", help="without a watermark")
    command.add_argument("--groups", type=int, default=1, help="parts of a batch that batch norm takes by themselves")
    command.set_defaults(engine=[])
    asked = parsed(command)
    ground = ground_of(asked, images=asked.batch * (asked.block * (asked.rounds + 1) + 1))
    here, how = machine(asked.device), {"block": asked.block, "rounds": asked.rounds, "pause": asked.pause}
    found = measured(ground, asked.workers, **how, clean=asked.clean, groups=asked.groups)
    lines = []
    for name, turns in found["turns"].items():
        middle = spread([1000 * turn["seconds"] for turn in turns[1:]])
        used = spread([1000 * turn["cpu"] for turn in turns[1:]])["median"]
        losses = " ".join(f"{turn['loss']:.4f}" for turn in turns)
        lines.append((name, *(f"{middle[which]:.1f}" for which in ("median", "low", "high")), f"{used:.1f}", losses))
    title = f"{asked.model}, batch {asked.batch}, {asked.device}: {asked.workers} workers against one"
    show(title, ("side", "median ms", "low", "high", "CPU ms", "losses of the turns"), lines)
    pairs = found["in_pairs"]
    print(f"throughput {found['throughput']:.3f}, in pairs {pairs['low']:.3f} to {pairs['high']:.3f}")
    publish(asked.output, here, {"ground": ground.said(), "workers": asked.workers, **found})


if __name__ == "__main__":
    main()
