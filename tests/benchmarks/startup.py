"""How long a trial takes to begin: in a fresh process, in one that has run a trial before, and the `check` command.

A trial has begun when the first step of its training is done. Victims of the quickstart, on scikit-learn's digits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mwm.config.loader import load_yaml
from mwm.config.spec import encode
from mwm.runner.execution.cluster import ray_cluster
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import OUTCOME
from tests.benchmarks.bench import ROOT, machine, parser, publish, show
from tests.benchmarks.driving import opened, run_opened, sweep_of
from tests.helpers.processes import telling, told

SCHEME = {"kind": "margin", "num_queries": 20, "step_size": 6 / 255, "weight": 0.3, "queries_per_step": 25}
QUICKSTART = ROOT / "tune_configs" / "quickstart.yaml"

FRESH = """
import time
marks = {"interpreter": time.time()}
import json, sys
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
marks["torch"] = time.time()
from mwm.runner.sweeps.validation import validate
from mwm.training.device import retain_freed_memory
from mwm.config.spec import decode
from mwm.trials.run import run
from mwm.storage.store import Store
from mwm.runner.sweeps.sweep import Sweep
from mwm.trials.trial import Trial
marks["mwm"] = time.time()
sweep = decode(Sweep, json.loads(sys.argv[1]))
sets, _ = validate(sweep)
marks["data"] = time.time()
stamp = lambda *_: marks.setdefault("first step", time.time())
register_optimizer_step_post_hook(stamp)
torch.set_num_threads(1)
retain_freed_memory()
list(run(Trial(victim=sweep.victim_specs[0]), sets, Store(sys.argv[2]), torch.device("cpu")))
print(json.dumps(marks))
"""


def begun(trials: int, data: Any, cpus: float = 1.0) -> Sweep:
    """Victims of the quickstart that differ in their seeds, for one epoch each."""
    tree = load_yaml(QUICKSTART)
    tree["victim"] |= {"data": data, "scheme": SCHEME, "seed": {"grid": list(range(trials))}}
    tree["victim"]["recipe"]["epochs"] = 1
    return sweep_of(tree | {"resources": {"victim": {"cpus": cpus}, "attack": {"cpus": cpus}}})


def digits(path: Path) -> Path:
    """The digits as an archive: in a worker of Ray they are given, too, without scikit-learn."""
    sets, _ = validate(begun(1, "digits"))
    (held,) = sets.data.values()
    images = {f"x_{part}": getattr(held, f"x_{part}").transpose(0, 2, 3, 1) for part in ("train", "test")}
    np.savez(path, **images, y_train=held.y_train, y_test=held.y_test)
    return path


def fresh(path: Path, folder: Path) -> dict[str, float]:
    """Seconds of each part of the way from the start of a process to the first step, and of the whole."""
    tree = json.dumps(encode(begun(1, {"kind": "npz", "path": str(path), "flip": False, "pad": 1})))
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", FRESH, tree, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    marks: dict[str, float] = json.loads(done.stdout)
    earlier = [began, *marks.values()]
    parts = {name: at - before for (name, at), before in zip(marks.items(), earlier, strict=False)}
    return parts | {"whole": marks["first step"] - began}


def reused(trials: int, folder: Path, cores: int) -> list[dict[str, float]]:
    """Seconds from an outcome to the first step of the next trial in the same process, and Ray's part of them.

    Each trial leases all cores, so that there is one process, and takes one thread.
    """
    sweep = begun(trials, "digits", cores)
    sets, _ = validate(sweep)
    plan, ledger = opened(sweep, folder, telling(sets, folder / "told", threads=1), attacks=False)
    with ray_cluster(None):
        run_opened(plan, ledger, sweep)
    ledger.close("FINISHED", complete=True)
    ends = sorted((ledger.results.store.folder(digest) / OUTCOME).stat().st_mtime for digest in ledger.results.outcomes)
    begins, steps = ([line["at"] for line in told(folder / "told", what)] for what in ("trial", "step"))
    assert len({line["pid"] for line in told(folder / "told", "trial")}) == 1, "not all ran in the same process"
    pairs = zip(ends, begins[1:], steps[1:], strict=False)  # nothing follows the last end
    return [{"Ray": begin - end, "trial": step - begin, "whole": step - end} for end, begin, step in pairs]


def checked() -> float:
    """Seconds of `launch.py check tune_configs/quickstart.yaml`."""
    began = time.monotonic()
    subprocess.run([sys.executable, "launch.py", "check", QUICKSTART], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def measured(rounds: int, cores: int) -> dict[str, Any]:
    """All that is measured, `rounds` times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = digits(folder / "digits.npz")
        fresh(path, folder / "warm")  # files that were never read are not what is measured
        return {
            "fresh": [fresh(path, folder / f"fresh-{number}") for number in range(rounds)],
            "reused": reused(rounds + 1, folder / "reused", cores),
            "check": [{"whole": checked()} for _ in range(rounds)],
        }


def main() -> None:
    """Measure and print medians and the slowest."""
    command = parser(__doc__)
    command.add_argument("--rounds", type=int, default=7)
    asked, here = command.parse_args(), machine()
    found = measured(asked.rounds, here["cores"])
    names = {"fresh": "a fresh process", "reused": "a process that is used again", "check": "launch.py check"}
    lines = []
    for way, runs in found.items():
        parts = {key: median(run[key] for run in runs) for key in runs[0]}
        split = ", ".join(f"{key} {value:.2f}" for key, value in parts.items() if key != "whole")
        lines.append((names[way], f"{parts['whole']:.2f}", f"{max(run['whole'] for run in runs):.2f}", split))
    show(f"seconds to the first step, {asked.rounds} times", ("", "median", "slowest", "medians of its parts"), lines)
    publish(asked.output, here, found)


if __name__ == "__main__":
    main()
