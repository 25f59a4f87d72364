"""How busy the slots are: attacks that begin as soon as their victim is done, against two runs in a row.

8 victims x 6 attacks on 4 slots, a victim four times as long as an attack; digits, a small network, one thread each.
Busy is the time that trials took over what four slots have between the first start and the last end.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from mwm.runner.execution.cluster import ray_cluster
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import Store
from mwm.trials.outcome import EpochMetrics
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs
from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.driving import Watched, opened, run_opened, sweep_of

SLOTS, LONGER = 4, 4
PROBE = 4
"""Epochs of the trials that tell how long an epoch is."""

DESIGNS = ("one staged run", "two runs in a row")


def tree(victims: int, attacks: int, epochs: tuple[int, int], cores: int) -> dict[str, Any]:
    """The sweep; `epochs` of a victim and of a student."""
    recipe = {"batch_size": 64, "lr": 0.05, "momentum": 0.9, "schedule": "cosine"}
    lease = {"cpus": cores / SLOTS}
    theft = {"kind": "extraction", "recipe": recipe | {"epochs": epochs[1]}, "seed": {"grid": list(range(attacks))}}
    return {
        "name": "slots",
        "victim": {
            "data": "digits",
            "split": {"validation": 40, "queries": 50},
            "model": {"kind": "cnn", "width": 8},
            "recipe": recipe | {"epochs": epochs[0]},
            "scheme": {"kind": "trigger_set", "num_queries": 10},
            "seed": {"grid": list(range(victims))},
        },
        "attacks": [theft],
        "attack_unmarked": True,
        "resources": {"victim": lease, "attack": lease},
    }


def calibrated(sweep: Sweep, sets: TrialInputs, folder: Path, *, seconds: float, cores: int) -> tuple[int, int]:
    """Epochs of a victim and of a student so that, four at a time, a student takes `seconds` and a victim 4 x that."""
    victim, (_, attack) = sweep.victim_specs[0], sweep.attack_specs[0]
    crowd = max(1.0, SLOTS / cores)
    took = []
    for trial in (Trial(victim=victim), Trial(victim=victim, attack=attack.resolve(victim))):
        rows = [row for row in run(trial, sets, Store(folder), torch.device("cpu")) if isinstance(row, EpochMetrics)]
        took.append(fmean(row.epoch_seconds for row in rows[1:]) * crowd)
    return max(1, round(LONGER * seconds / took[0])), max(1, round(seconds / took[1]))


def staged(sweep: Sweep, folder: Path, sets: TrialInputs) -> list[Watched]:
    """The product: one run in which every trial has its place."""
    return [_conducted(sweep, folder, sets, attacks=True)]


def in_a_row(sweep: Sweep, folder: Path, sets: TrialInputs) -> list[Watched]:
    """All victims, and when the last of them is done all attacks, in a second run that finds them in the store."""
    return [_conducted(sweep, folder / part, sets, attacks=part == "attacks") for part in ("victims", "attacks")]


def _conducted(sweep: Sweep, folder: Path, sets: TrialInputs, *, attacks: bool) -> Watched:
    folder.mkdir(parents=True, exist_ok=True)
    plan, ledger = opened(sweep, folder, sets, attacks=attacks)
    ledger.results.store = Store(folder.parent / "store")
    run_opened(plan, ledger, sweep)
    return ledger


def figures(ledgers: list[Watched]) -> dict[str, float]:
    """How busy the slots were, and what the trials were like (seconds)."""
    spans = {name: span for ledger in ledgers for name, span in ledger.spans().items()}
    ended = {name: one for ledger in ledgers for name, one in ledger.results.outcomes.items()}
    assert all(outcome.status == "done" for _, outcome in ended.values()), "a trial was not done"
    length = max(end for _, end in spans.values()) - min(start for start, _ in spans.values())
    held = {name: end - start for name, (start, end) in spans.items()}
    victims = [held[name] for name in held if ended[name][0].attack is None]
    attacks = [held[name] for name in held if ended[name][0].attack is not None]
    training = sum(ended[name][1].seconds or 0.0 for name in held)
    return {
        "trials": len(held),
        "seconds": length,
        "busy": sum(held.values()) / (SLOTS * length),
        "training": training / (SLOTS * length),
        "victim_seconds": fmean(victims),
        "attack_seconds": fmean(attacks),
        "ratio": fmean(victims) / fmean(attacks),
    }


def compared(victims: int, attacks: int, seconds: float, cores: int) -> dict[str, Any]:
    """Both designs, one after the other on one cluster."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probe = sweep_of(tree(1, 1, (PROBE, PROBE), cores))
        sets, _ = validate(probe)
        epochs = calibrated(probe, sets, folder / "probe", seconds=seconds, cores=cores)
        sweep = sweep_of(tree(victims, attacks, epochs, cores))
        found: dict[str, Any] = {"epochs": epochs, "slots": SLOTS}
        warm = sweep_of(tree(SLOTS, 1, (1, 1), cores))
        with ray_cluster(None):
            for ledger in staged(warm, folder / "warm" / "run", sets):  # or the first design would pay for cold files
                ledger.close("FINISHED", complete=True)
            for design, conducted in zip(DESIGNS, (staged, in_a_row), strict=True):
                ledgers = conducted(sweep, folder / design / "run", sets)
                found[design] = figures(ledgers)
                for ledger in ledgers:
                    ledger.close("FINISHED", complete=True)
    return found


def main() -> None:
    """Compare the designs and print both."""
    command = parser(__doc__)
    command.add_argument("--victims", type=int, default=8)
    command.add_argument("--attacks", type=int, default=6)
    command.add_argument("--seconds", type=float, default=7.0, help="length of an attack")
    asked, here = command.parse_args(), machine()
    found = compared(asked.victims, asked.attacks, asked.seconds, here["cores"])
    lines = [
        (
            design,
            f"{found[design]['busy']:.1%}",
            f"{found[design]['training']:.1%}",
            f"{found[design]['seconds']:.1f}",
            f"{found[design]['victim_seconds']:.1f}",
            f"{found[design]['attack_seconds']:.1f}",
            f"{found[design]['ratio']:.2f}",
        )
        for design in DESIGNS
    ]
    title = f"{asked.victims} victims x {asked.attacks} attacks on {SLOTS} slots"
    headings = ("design", "busy", "training", "whole s", "victim s", "attack s", "ratio")
    show(title, headings, lines)
    publish(asked.output, here, found)


if __name__ == "__main__":
    main()
