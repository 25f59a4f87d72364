"""Trials at once against trials one after the other, and what it is worth that each takes the threads of its lease.

Victims of the quickstart (margin, 20 queries, 6/255) on a Ray of this machine, in four designs, in turns. Throughput
counts from the moment at which the first trials begin together to the last outcome; starting processes is not in it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mwm.config.loader import load_yaml
from mwm.runner.execution.cluster import ray_cluster
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import OUTCOME
from mwm.trials.trial import TrialInputs
from tests.benchmarks.bench import ROOT, machine, parser, publish, show
from tests.benchmarks.driving import opened, run_opened, sweep_of
from tests.helpers.processes import telling, told

SCHEME = {"kind": "margin", "num_queries": 20, "step_size": 6 / 255, "weight": 0.3, "queries_per_step": 25}
BASE = "one after the other"


@dataclass(frozen=True)
class Design:
    """So many trials at once, on `cpus` cores each; `threads` in place of what follows from that, if not 0."""

    name: str
    slots: int
    cpus: float
    threads: int = 0


def designs(trials: int, cores: int) -> list[Design]:
    """The designs, the one that the others are held against first."""
    return [
        Design(BASE, 1, cores),
        Design("a core each", min(trials, cores), 1),
        Design("all at once", trials, cores / trials),
        Design("all at once, a pool of all cores each", trials, cores / trials, cores),
    ]


def trials_of(trials: int, epochs: int, cpus: float) -> Sweep:
    """Victims of the quickstart that differ in their seeds."""
    tree = load_yaml(ROOT / "tune_configs" / "quickstart.yaml")
    tree["victim"] |= {"scheme": SCHEME, "seed": {"grid": list(range(trials))}}
    tree["victim"]["recipe"]["epochs"] = epochs
    return sweep_of(tree | {"resources": {"victim": {"cpus": cpus}, "attack": {"cpus": cpus}}})


def conducted(design: Design, trials: int, epochs: int, sets: TrialInputs, folder: Path) -> dict[str, float]:
    """One sweep on a Ray of its own: trials a minute, how much of it was training, the largest peak (MiB)."""
    sweep = trials_of(trials, epochs, design.cpus)
    seen = telling(sets, folder / "told", meet=design.slots, threads=design.threads)
    plan, ledger = opened(sweep, folder, seen, attacks=False)
    with ray_cluster(None):
        run_opened(plan, ledger, sweep)
    ledger.close("FINISHED", complete=True)
    outcomes = [outcome for _, outcome in ledger.results.outcomes.values()]
    assert [outcome.status for outcome in outcomes] == ["done"] * trials, "a trial was not done"
    used = {int(line["threads"]) for line in told(folder / "told", "step")}
    assert used == {design.threads or max(1, int(design.cpus))}, f"trials took {used} threads"
    end = max((ledger.results.store.folder(outcome.digest) / OUTCOME).stat().st_mtime for outcome in outcomes)
    took = end - told(folder / "told", "begin")[0]["at"]
    return {
        "trials_per_minute": trials * 60 / took,
        "training": sum(outcome.seconds or 0.0 for outcome in outcomes) / (design.slots * took),
        "peak_mib": max(outcome.peak_mib or 0.0 for outcome in outcomes),
    }


def compared(trials: int, epochs: int, rounds: int, cores: int) -> dict[str, Any]:
    """Every design in turns, `rounds` times, and the medians; `ratio` is the throughput against `BASE`, by round."""
    sets, _ = validate(trials_of(1, epochs, 1))
    found: dict[str, list[dict[str, float]]] = {design.name: [] for design in designs(trials, cores)}
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            for design in designs(trials, cores):
                folder = Path(name) / f"{number}-{design.slots}-{design.threads}"
                found[design.name].append(conducted(design, trials, epochs, sets, folder))
    for runs in found.values():
        for run, base in zip(runs, found[BASE], strict=True):
            run["ratio"] = run["trials_per_minute"] / base["trials_per_minute"]
    middle = {design: {key: median(run[key] for run in runs) for key in runs[0]} for design, runs in found.items()}
    return {"trials": trials, "epochs": epochs, "medians": middle, "rounds": found}


def main() -> None:
    """Compare the designs and print them."""
    command = parser(__doc__)
    command.add_argument("--trials", type=int, default=4)
    command.add_argument("--epochs", type=int, default=40)
    command.add_argument("--rounds", type=int, default=5)
    asked, here = command.parse_args(), machine()
    found = compared(asked.trials, asked.epochs, asked.rounds, here["cores"])
    lines = []
    for design, middle in found["medians"].items():
        ratios = [run["ratio"] for run in found["rounds"][design]]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        figures = (f"{middle['trials_per_minute']:.1f}", f"{middle['ratio']:.2f}", spread)
        lines.append((design, *figures, f"{middle['training']:.0%}", f"{middle['peak_mib']:.0f}"))
    title = f"{asked.trials} trials of {asked.epochs} epochs on {here['cores']} cores, medians of {asked.rounds} rounds"
    show(title, ("design", "trials/min", "ratio", "of all rounds", "training", "peak MiB"), lines)
    publish(asked.output, here, found)


if __name__ == "__main__":
    main()
