"""Whether a faster engine trains the same network: its weights after some steps against those of the plain one.

Relative difference, in the Euclidean norm over all weights. Arithmetic in another order differs in its last bits, and
an ascent by signs makes much of that; so the measure is the plain engine in the other memory layout, which is the same
mathematics. An engine in float32 may be as far off as `SLACK` of that, or by `ALLOWED`, whichever is more; else the
exit status is 1. What is in bf16 is only reported. Float32 is exact here: no TF32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mwm.training.device import deterministic
from mwm.training.recipe import Recipe
from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.ground import Ground, add_ground, engine_name, ground_of, parsed
from tests.benchmarks.sides import engine_of, picks

PLAIN, OTHER = "float32", "float32+contiguous"
ALLOWED, SLACK = 1e-5, 10.0
TELLING = 10.0
"""What is allowed must be so many times less than the way that the weights went, or it shows nothing."""


def weights_after(ground: Ground, recipe: Recipe, steps: int, rate: float) -> Tensor:
    """All weights, in a row, after so many steps."""
    engine = engine_of(ground, recipe)
    engine.start_epoch(ground.seed, 0)
    with deterministic(recipe.deterministic):
        for pick in islice(picks(ground), steps):
            engine.step(pick, rate)
    return torch.cat([weight.detach().double().cpu().flatten() for weight in engine.training.model.parameters()])


def measured(ground: Ground, engines: list[str], *, steps: int, rate: float) -> dict[str, Any]:
    """The difference of each engine from the plain one, and how much is allowed."""
    torch.backends.cudnn.allow_tf32 = False
    plain = weights_after(ground, ground.recipe(PLAIN), steps, rate)
    start = weights_after(ground, ground.recipe(PLAIN), 0, rate)
    found: dict[str, Any] = {"way": float((plain - start).norm() / plain.norm()), "differences": {}}
    for name in (PLAIN, OTHER, *engines):
        other = weights_after(ground, ground.recipe(name), steps, rate)
        found["differences"][name] = float((other - plain).norm() / plain.norm())
    found["allowed"] = max(ALLOWED, SLACK * found["differences"][OTHER])
    return found


def faults(found: Mapping[str, Any]) -> list[str]:
    """Engines in float32 that are too far off, or whose weights are no numbers; all, where that much shows nothing."""
    telling = found["allowed"] < found["way"] / TELLING
    return [
        name
        for name, difference in found["differences"].items()
        if "bf16" not in name.split("+") and not (telling and difference <= found["allowed"])
    ]


def command_line() -> argparse.ArgumentParser:
    """What may be asked."""
    command = parser(__doc__)
    add_ground(command, model="resnet18")
    command.add_argument("--engine", action="append", type=engine_name, help="may be given several times")
    command.add_argument("--steps", type=int, default=20)
    command.add_argument("--rate", type=float, default=0.01)
    return command


def main() -> int:
    """Measure and print; 1 if an engine is at fault."""
    asked = parsed(command_line())
    torch.set_num_threads(asked.threads)
    ground, here = ground_of(asked, images=asked.batch * asked.steps), machine(asked.device)
    found = measured(ground, asked.engine or [], steps=asked.steps, rate=asked.rate)
    wrong = faults(found)
    lines = [
        (name, f"{difference:.1e}", "too far" if name in wrong else "")
        for name, difference in found["differences"].items()
    ]
    title = f"{asked.steps} steps of {asked.model}, which moved the weights by {found['way']:.1e}"
    show(f"{title}; allowed {found['allowed']:.1e}", ("engine", "difference", ""), lines)
    what = {"device": here.get("gpu", "cpu"), "exercise": asked.exercise, "ground": ground.said()}
    publish(asked.output, here, {**what, "steps": asked.steps, "faults": wrong, **found})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
