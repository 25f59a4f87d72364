"""A whole epoch with its validation: the engine's loop against the published one, in turns.

`--data digits --model cnn` is the README's first command (its margin scheme, but the published fall of the rate);
`--data cifar` is noise of CIFAR's shape. The first epoch of each rival does not count. What 200 epochs would take is
projected from the median, and called so. With `--full` the engines go through all 200, the first one counts, and the
reference is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.ground import Ground, add_ground, default_engines, engine_name, ground_of, parsed
from tests.benchmarks.rivals import Samples, compared, race
from tests.benchmarks.sides import REFERENCE, racing

PUBLISHED = 200
"""Epochs of the published recipe."""


def measured(
    ground: Ground, engines: list[str], *, rounds: int, warm: int, pause: float, limit: float, reference: bool
) -> dict[str, Any]:
    """All figures of a run; without the reference the ratios are against the first engine."""
    rivals = racing(ground, engines, epochs=warm + rounds, reference=reference)
    samples = race(rivals, rounds=rounds, warm=warm, pause=pause, limit=limit)
    return {"rivals": judged(samples, rivals[0].name), "samples": samples}


def judged(samples: Samples, against: str) -> dict[str, dict[str, Any]]:
    """The comparison, with what 200 epochs took where there were so many, and else what they would take."""
    found = compared(samples, against)
    for name, figures in found.items():
        turns = samples[name]
        figures |= {key: value for key, value in turns[-1].items() if key != "seconds"}
        figures["epochs_measured"] = len(turns)
        if len(turns) == PUBLISHED:
            figures["seconds_of_200"] = sum(turn["seconds"] for turn in turns)
        else:
            figures["projected_seconds_of_200"] = PUBLISHED * figures["seconds"]["median"]
    return found


def table(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each rival: seconds an epoch, ratio, what 200 epochs take, and the last validation accuracy."""
    lines: list[tuple[str, ...]] = []
    for name, one in found["rivals"].items():
        whole, how = one.get("seconds_of_200"), "measured"
        if whole is None:
            whole, how = one["projected_seconds_of_200"], "projected"
        lines.append(
            (
                name,
                f"{one['seconds']['median']:.3f}",
                f"{one['seconds']['low']:.3f}-{one['seconds']['high']:.3f}",
                f"{one['ratio']:.2f}",
                f"{one['ratios']['low']:.2f}-{one['ratios']['high']:.2f}",
                f"{whole / 60:.1f} {how}",
                f"{one['accuracy']:.3f}",
            )
        )
    return lines


def winners(path: Path, count: int = 2) -> list[str]:
    """The engines that had the fastest steps, from the file of figures of `tests.benchmarks.step`."""
    rivals = json.loads(path.read_text())["rivals"]
    engines = [name for name in rivals if name != REFERENCE]
    return sorted(engines, key=lambda name: float(rivals[name]["seconds"]["median"]))[:count]


def command_line() -> argparse.ArgumentParser:
    """What may be asked."""
    command = parser(__doc__)
    add_ground(command, model="cnn", data=True)
    command.add_argument("--engine", action="append", type=engine_name, help="may be given several times")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--pause", type=float, default=0.5, help="seconds before each turn")
    command.add_argument("--seconds", type=float, default=float("inf"), help="begin no round that would end later")
    command.add_argument("--winners-of", type=Path, metavar="STEP.json", help="the two fastest engines there")
    command.add_argument("--full", action="store_true", help="the engines alone, through all 200 epochs")
    return command


def main() -> None:
    """Measure and print."""
    asked = parsed(command_line())
    ground, here, full = ground_of(asked), machine(asked.device), asked.full
    engines = winners(asked.winners_of) if asked.winners_of else asked.engine or default_engines(asked.device)
    found = measured(
        ground,
        engines,
        rounds=PUBLISHED if full else asked.rounds,
        warm=0 if full else 1,
        pause=0 if full else asked.pause,
        limit=asked.seconds,
        reference=not full,
    )
    first = "the first" if full else REFERENCE
    rounds = max(one["epochs_measured"] for one in found["rivals"].values())
    title = f"{asked.model} on {asked.data}, {asked.device}: {rounds} epochs each; times faster than {first}"
    headings = ("rival", "median s", "quartiles", "times faster", "in pairs", "200 epochs, min", "accuracy")
    show(title, headings, table(found))
    what = {"device": here.get("gpu", "cpu"), "exercise": asked.exercise, "ground": ground.said()}
    publish(asked.output, here, {**what, **found})


if __name__ == "__main__":
    main()
