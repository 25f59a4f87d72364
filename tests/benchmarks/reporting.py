"""How long a report takes, and how large it is: `python -m tests.benchmarks.reporting --trials 10000`.

Real trials, made up outcomes: a grid of settings of one scheme, two controls and a catalogue of attacks.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mwm.runner.reporting.results import TrialResult
from tests.helpers.ended import MARGIN, control, result, trial
from tests.helpers.reported import sweep_folder

ROOT = Path(__file__).parents[2]
ATTACKS: list[dict[str, Any]] = [
    {"kind": "extraction", "labels": labels, "query_budget": budget}
    for labels in ("soft", "hard")
    for budget in (None, 300, 600, 1200)
]
SEEDS = 2


def made_up(count: int) -> list[TrialResult]:
    """So many trials or a few more: victims, each with all attacks."""
    drawn = np.random.default_rng(0)
    ended = [control(seed, attack) for seed in range(SEEDS) for attack in (None, *ATTACKS)]
    number = 0
    while len(ended) < count:
        scheme = MARGIN | {"weight": 0.1 + number / 1000, "step_size": (1 + number % 8) / 255}
        for seed in range(SEEDS):
            victim = result(trial(scheme, seed), clean_acc=0.97 - 0.02 * drawn.random(), log10_p=-40.0, query_acc=1.0)
            ended.append(victim)
            for attack in ATTACKS:
                shown = trial(scheme, seed, attack)
                calls = attack["query_budget"] or 38_400
                left = {"log10_p": -12 * drawn.random(), "query_acc": 0.2 * drawn.random(), "oracle_calls": calls}
                ended.append(_timed(result(shown, clean_acc=0.94 + 0.04 * drawn.random(), **left)))
        number += 1
    return ended


def _timed(ended: TrialResult) -> TrialResult:
    return replace(ended, outcome=replace(ended.outcome, seconds=5.0, peak_mib=900.0, device="cpu"))


def main() -> None:
    """Measure the whole command, as a user has it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--trials", type=int, default=10_000)
    asked.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "results" / "many"
        ended = made_up(options.trials)
        began = time.perf_counter()
        sweep_folder(folder, ended)
        wrote = time.perf_counter() - began
        began = time.perf_counter()
        command = [sys.executable, str(ROOT / "launch.py"), "report", "many", "--storage", place]
        subprocess.run(command, cwd=place, check=True)
        took = time.perf_counter() - began
        size = (folder / "report.html").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    found = {"trials": len(ended), "write_seconds": wrote, "report_seconds": took, "bytes": size, "peak_mib": peak}
    print(", ".join(f"{name} {value:,.4g}" for name, value in found.items()))
    if options.output:
        options.output.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
