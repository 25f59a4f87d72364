"""What a sweep costs its driver as it grows: trivial trials, few against many.

Overhead per trial is the wall-clock from the first start to the end less what the trials themselves took (what their
outcomes say, per slot), over their number. Each size is a process of its own. `--simulate` leaves Ray out (see
`simulating.py`), `--profile` repeats the runs under cProfile and names the functions whose CPU time per trial grew.
The whole is `--victims 20 400 --simulate 100 200 400`; 2,000 victims x 4 attacks take about an hour of each.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.bench import ROOT, machine, parser, publish, show
from tests.benchmarks.driving import functions, npz, opened, run_opened, sample, size, sweep_of
from tests.benchmarks.simulating import ATTACKS, PATIENCE_SECONDS, simulated, tree
from tests.helpers.tracked import flushed

GREW, SHARE = 1.5, 0.01
"""A function is named if its cost per trial grew by this factor and it has this share of the larger run."""

SAMPLES = 40
"""How often a run looks at its driver."""

FACTOR, SECONDS = 1.3, 0.5
"""The aims: overhead per trial of the smallest run, and by how much it may be more in the largest."""


def conducted(victims: int, *, profile: bool) -> dict[str, Any]:
    """Run a sweep on Ray in this process."""
    from mwm.runner.execution.cluster import concurrent_trials, ray_cluster
    from mwm.runner.sweeps.validation import validate

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, ray_cluster(None):
        folder = Path(name)
        sweep = sweep_of(tree(npz(folder / "data.npz"), victims))
        began = time.perf_counter()
        sets, _ = validate(sweep)
        found: dict[str, Any] = {"check": time.perf_counter() - began, "slots": concurrent_trials(sweep.resources)}
        plan, ledger = opened(sweep, folder, sets)
        ledger.every = max(1, (plan.victims + plan.attacks) // SAMPLES)
        ledger.samples.append(sample(0))
        profiler = cProfile.Profile(time.thread_time)
        if profile:
            profiler.enable()
        run_opened(plan, ledger, sweep)
        profiler.disable()
        ledger.samples.append(sample(len(ledger.results.outcomes)))
        began = time.perf_counter()
        found["unsent"] = flushed(ledger.mlflow, 0)
        assert flushed(ledger.mlflow, PATIENCE_SECONDS) == 0, "not all was recorded"
        found["flush"], began = time.perf_counter() - began, time.perf_counter()
        ledger.close("FINISHED", complete=True)
        found["close"] = time.perf_counter() - began
        assert ledger.results.count("done") == plan.victims + plan.attacks, "a trial was not done"
        found |= {"trained": sum(outcome.seconds or 0.0 for _, outcome in ledger.results.outcomes.values())}
        found["saves"] = sum(ledger.results.saves)
        found |= {"first_start": min(ledger.starts.values()), "samples": [asdict(one) for one in ledger.samples]}
        found |= {"sizes": {part: size(folder / part) for part in ("results", "store", "mlflow.db")}}
        return found | _figures(found) | {"functions": functions(profiler) if profile else {}}


def _figures(found: dict[str, Any]) -> dict[str, float]:
    """Per trial (seconds), and MiB of memory per 1,000 trials after the first tenth of the run."""
    first, last = found["samples"][0], found["samples"][-1]
    trials, wall = last["trials"], last["wall"] - found["first_start"]
    settled = next(one for one in found["samples"] if one["trials"] >= trials / 10)
    more = last["trials"] - settled["trials"]
    return {
        "trials": trials,
        "overhead": (wall - found["trained"] / found["slots"]) / trials,
        "cpu": (last["cpu"] - first["cpu"]) / trials,
        "rss_start": first["rss"],
        "rss_end": last["rss"],
        "rss_per_1000": (last["rss"] - settled["rss"]) / more * 1000 if more else math.nan,
        "late": _late(found["samples"], trials),
    }


def _late(samples: Sequence[dict[str, Any]], trials: int) -> float:
    """How much longer a trial took in the last quarter of a run than in the second."""

    def pace(low: float, high: float) -> float:
        inside = [one for one in samples if low * trials <= one["trials"] <= high * trials]
        done = inside[-1]["trials"] - inside[0]["trials"] if inside else 0
        return (inside[-1]["wall"] - inside[0]["wall"]) / done if done else math.nan

    return pace(0.75, 1.0) / pace(0.25, 0.5)


def grown(small: dict[str, Any], large: dict[str, Any]) -> list[tuple[str, ...]]:
    """Functions whose cost per trial grew: name, seconds in the large run, milliseconds per trial in both, factor."""
    least = SHARE * max(large["functions"].values())
    lines: list[tuple[str, ...]] = []
    for name, seconds in sorted(large["functions"].items(), key=lambda item: -item[1]):
        now, before = seconds / large["trials"], small["functions"].get(name, 0.0) / small["trials"]
        if seconds > least and now > GREW * before:
            factor = f"{now / before:.1f}" if before else "new"
            lines.append((name, f"{seconds:.1f}", f"{1000 * before:.2f}", f"{1000 * now:.2f}", factor))
    return lines


def apart(what: str, victims: int, *, profile: bool) -> dict[str, Any]:
    """Run one size in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        words = [sys.executable, "-m", "tests.benchmarks.growth", "--alone", what, "--victims", str(victims)]
        words += ["--profile"] * profile + ["--output", file.name]
        subprocess.run(words, check=True, cwd=ROOT)
        found: dict[str, Any] = json.loads(Path(file.name).read_text())
        return found


def show_conducted(runs: Sequence[dict[str, Any]]) -> None:
    """The runs on Ray, one line each."""
    headings = (
        "trials",
        "overhead s",
        "driver CPU s",
        "saves s",
        "late/early",
        "RSS MiB",
        "per 1,000",
        "results MiB",
        "store",
        "db",
    )
    lines = [
        (
            f"{run['trials']}",
            f"{run['overhead']:.3f}",
            f"{run['cpu']:.3f}",
            f"{run['saves'] / run['trials']:.4f}",
            f"{run['late']:.2f}",
            f"{run['rss_start']:.0f} → {run['rss_end']:.0f}",
            f"{run['rss_per_1000']:.0f}",
            *(f"{run['sizes'][part]:.1f}" for part in ("results", "store", "mlflow.db")),
        )
        for run in runs
    ]
    factor = runs[-1]["overhead"] / runs[0]["overhead"]
    title = f"on Ray, per trial; aims: {SECONDS} s, and at most {FACTOR} x that in the end (here {factor:.2f} x)"
    show(title, headings, lines)


def show_simulated(runs: Sequence[dict[str, Any]]) -> None:
    """The runs without Ray: CPU milliseconds per trial of each part, and the exponent between the two ends."""
    first, last = runs[0], runs[-1]
    lines = []
    for part in first["parts"]:
        each = [f"{1000 * run['parts'][part] / run['trials']:.2f}" for run in runs]
        lines.append((part, *each, f"{exponent(first, last, part):.2f}" if len(runs) > 1 else "-"))
    for number, part in enumerate(("wall-clock", "again: wall-clock")):
        each = [f"{1000 * run['wall'][number] / run['trials']:.2f}" for run in runs]
        lines.append((part, *each, "-"))
    lines.append(("memory, MiB", *(f"{run['rss_end'] - run['rss_start']:.0f}" for run in runs), "-"))
    show("without Ray, CPU ms per trial", ("trials", *(str(run["trials"]) for run in runs), "exponent"), lines)


def exponent(small: dict[str, Any], large: dict[str, Any], part: str) -> float:
    """k if the cost of a part goes with the k-th power of the number of trials."""
    return math.log(large["parts"][part] / small["parts"][part]) / math.log(large["trials"] / small["trials"])


def command() -> argparse.ArgumentParser:
    """What may be said on the command line."""
    made = parser(__doc__)
    made.add_argument("--victims", type=int, nargs="*", default=[20, 400], help=f"each with {ATTACKS} attacks")
    made.add_argument("--simulate", type=int, nargs="*", default=[], help="victims of the runs without Ray")
    made.add_argument("--profile", action="store_true", help="name the functions whose cost per trial grows")
    made.add_argument("--alone", choices=("ray", "simulate"), help=argparse.SUPPRESS)
    return made


def main() -> None:
    """Run every size and print what grew."""
    asked, here = command().parse_args(), machine()
    if asked.alone:
        run = conducted if asked.alone == "ray" else simulated
        asked.output.write_text(json.dumps(run(asked.victims[0], profile=asked.profile)))
        return
    found: dict[str, Any] = {"ray": [], "simulated": [], "profiled": []}
    if asked.victims:
        found["ray"] = [apart("ray", victims, profile=False) for victims in asked.victims]
        show_conducted(found["ray"])
    if asked.simulate:
        found["simulated"] = [apart("simulate", victims, profile=False) for victims in asked.simulate]
        show_simulated(found["simulated"])
    if asked.profile:
        for what, sizes in (("ray", asked.victims), ("simulate", asked.simulate)):
            ends = [apart(what, victims, profile=True) for victims in (sizes[:1] + sizes[-1:] if sizes else [])]
            if ends:
                found["profiled"] += ends
                headings = (f"grew ({what})", "s", *(f"ms/trial at {run['trials']}" for run in ends), "factor")
                show(f"cost per trial grew by more than {GREW} x", headings, grown(*ends))
    publish(asked.output, here, found)


if __name__ == "__main__":
    main()
