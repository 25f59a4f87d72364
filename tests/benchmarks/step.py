"""One step of training: the engine against the published loop, and both against what the device can do at most.

The rivals (`reference`, each `--engine`, and `ceiling`, which multiplies large matrices) take turns of `--block` steps
in processes of their own. An engine is named by words joined by +: float32 or bf16, contiguous (else channels_last),
compile, graph, deterministic. The data are noise of CIFAR's shape. The share of the limit is the operations that
PyTorch counts in a step of that rival, over its median seconds, over the best rate of a product in its own precision.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.counting import SIDES, ceiling, engine_operations, reference_operations
from tests.benchmarks.ground import Ground, add_ground, default_engines, engine_name, ground_of, parsed
from tests.benchmarks.rivals import Rival, Samples, compared, race
from tests.benchmarks.sides import REFERENCE, stepping

CEILING = "ceiling"


def precision(name: str) -> str:
    """In what a rival computes."""
    return "bf16" if "bf16" in name.split("+") else "float32"


def limits(turns: list[dict[str, float]], kinds: list[str]) -> dict[str, float]:
    """The best rate (operations a second) of each precision, over all forms and rounds."""
    return {
        kind: max(rate for turn in turns for what, rate in turn.items() if what.split()[0] == kind) for kind in kinds
    }


def measured(
    ground: Ground, engines: list[str], *, sides: Sequence[int], block: int, rounds: int, pause: float, limit: float
) -> dict[str, Any]:
    """All figures of a run."""
    kinds = sorted({precision(name) for name in (REFERENCE, *engines)})
    device, threads = ground.device, ground.threads
    ceilings = Rival(CEILING, partial(ceiling, device, kinds, sides), device, threads)
    rivals = [*stepping(ground, engines, block), ceilings]
    samples = race(rivals, rounds=rounds, warm=2, pause=pause, limit=limit)
    best = limits(samples[CEILING], kinds)
    counted = {"engine": engine_operations(ground), REFERENCE: reference_operations(ground)}
    return {"operations": counted, "limits": best, **_judged(samples, counted, best), "samples": samples}


def _judged(samples: Samples, counted: Mapping[str, Any], best: Mapping[str, float]) -> dict[str, Any]:
    found = compared({name: turns for name, turns in samples.items() if name != CEILING}, REFERENCE)
    for name, figures in found.items():
        work = counted[REFERENCE] if name == REFERENCE else counted["engine"]["total"]
        figures["rate"] = work / figures["seconds"]["median"]
        figures["share"] = figures["rate"] / best[precision(name)]
        if "memory_mib" in samples[name][-1]:
            figures["memory_mib"] = samples[name][-1]["memory_mib"]
    return {"rivals": found}


def table(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each rival: milliseconds a step, ratio, rate and share of the limit."""
    return [
        (
            name,
            f"{1000 * one['seconds']['median']:.1f}",
            f"{1000 * one['seconds']['low']:.1f}-{1000 * one['seconds']['high']:.1f}",
            f"{one['ratio']:.2f}",
            f"{one['ratios']['low']:.2f}-{one['ratios']['high']:.2f}",
            f"{one['rate'] / 1e9:,.0f}",
            f"{one['share']:.1%}",
        )
        for name, one in found["rivals"].items()
    ]


def printed(asked: argparse.Namespace, found: Mapping[str, Any]) -> None:
    """Say it in tables."""
    counted = found["operations"]
    lines = [(part, f"{number / 1e9:,.2f}") for part, number in counted["engine"].items()]
    show(
        "Counted operations of a step",
        ("part", "GFLOP"),
        [*lines, ("reference, total", f"{counted[REFERENCE] / 1e9:,.2f}")],
    )
    rates = {
        what: max(t[what] for t in found["samples"][CEILING]) for what in found["samples"][CEILING][0] if " " in what
    }
    lines = [(what, f"{rate / 1e9:,.0f}") for what, rate in rates.items()]
    show("Large products: the limit is the best form", ("precision, form", "GFLOP/s"), lines)
    rounds = len(found["samples"][REFERENCE])
    title = f"{asked.model}, batch {asked.batch}, {asked.device}: {rounds} rounds of {asked.block} steps"
    headings = ("rival", "median ms", "quartiles", "times faster", "in pairs", "GFLOP/s", "of the limit")
    show(title, headings, table(found))


def command_line() -> argparse.ArgumentParser:
    """What may be asked."""
    command = parser(__doc__)
    add_ground(command, model="resnet18")
    command.add_argument("--engine", action="append", type=engine_name, help="may be given several times")
    command.add_argument("--block", type=int, default=3, help="steps a turn")
    command.add_argument("--rounds", type=int, default=7)
    command.add_argument("--sides", type=int, nargs="+", help="rows and columns of the large matrices")
    command.add_argument("--pause", type=float, default=0.5, help="seconds before each turn")
    command.add_argument("--seconds", type=float, default=float("inf"), help="begin no round that would end later")
    return command


def main() -> None:
    """Measure and print."""
    asked = parsed(command_line())
    images = asked.batch * max(2, asked.block * (asked.rounds + 2) + 1)  # so that no epoch ends within a turn
    ground, here = ground_of(asked, images=images), machine(asked.device)
    engines = asked.engine or default_engines(asked.device)
    sides = asked.sides or SIDES["cuda" if asked.device.startswith("cuda") else "cpu"]
    found = measured(
        ground, engines, sides=sides, block=asked.block, rounds=asked.rounds, pause=asked.pause, limit=asked.seconds
    )
    printed(asked, found)
    what = {"device": here.get("gpu", "cpu"), "exercise": asked.exercise, "ground": ground.said()}
    publish(asked.output, here, {**what, "block": asked.block, **found})


if __name__ == "__main__":
    main()
