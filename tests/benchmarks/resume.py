"""From the death of a driver to training again: how long it takes with --resume, of what parts, and what was lost.

Two victims train on digits; the driver is killed (kill -9) at a seeded moment after both have a checkpoint. Work lost
is the time since each last checkpoint, over the length of an epoch. The second driver is the command line itself, with
marks round its parts; it has trained again when an epoch arrives that no checkpoint held.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import yaml

from mwm.storage.store import CHECKPOINT, Store
from tests.benchmarks.bench import ROOT, machine, parser, publish, show
from tests.helpers.launching import command, environment

TRIALS, PATIENCE_SECONDS = 2, 240.0
PARTS = {
    "python": "interpreter, libraries of the command line",
    "libraries": "libraries: Ray, MLflow, Tune",
    "data": "sweep file and data",
    "ray": "Ray started",
    "mlflow": "MLflow opened",
    "plan": "plan, progress",
    "trial": "first trial begins",
    "epoch": "first new epoch arrives",
}
"""Marks in the order in which they come, and what lies before each."""


def tree() -> dict[str, Any]:
    """A sweep of long trials."""
    return {
        "name": "resume",
        "victim": {
            "data": "digits",
            "split": {"validation": 40, "queries": 50},
            "model": {"kind": "cnn", "width": 16},
            "recipe": {"epochs": 5000, "batch_size": 32, "lr": 0.05, "momentum": 0.9, "schedule": "cosine"},
            "scheme": {"kind": "margin", "num_queries": 10, "step_size": 0.01, "steps": 5, "queries_per_step": 8},
            "seed": {"grid": list(range(TRIALS))},
        },
        "attacks": ["extraction"],
        "attack_unmarked": True,
        "resources": {"victim": {"cpus": len(os.sched_getaffinity(0)) / TRIALS}},
    }


def until(what: str, ready: Callable[[], bool]) -> float:
    """Wait for something; the moment (seconds since 1970)."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} within {PATIENCE_SECONDS:g} s")
        time.sleep(0.02)
    return time.time()


def killed(folder: Path, path: Path, seed: int) -> dict[str, Any]:
    """Run a driver, kill it at some moment, and see what the checkpoints hold."""
    store = folder / "store"
    with (folder / "first.log").open("w") as log:
        driver = subprocess.Popen(command("run", path), cwd=folder, env=environment(), stdout=log, stderr=log)
    try:
        until("checkpoint of every trial", lambda: len(list(store.glob(f"*/*/{CHECKPOINT}"))) == TRIALS)
        time.sleep(random.Random(seed).uniform(3, 6))
        below = psutil.Process(driver.pid).children(recursive=True)
    finally:
        driver.kill()
        at = time.time()
        driver.wait()
    trials = {}
    for file in store.glob(f"*/*/{CHECKPOINT}"):
        state = Store(store).checkpoint(file.parent.name)
        assert state is not None, "a checkpoint is damaged"
        length = state["seconds"] / len(state["rows"])
        lost = max(0.0, at - file.stat().st_mtime)
        trials[file.parent.name] = {"epochs": len(state["rows"]), "epoch_seconds": length, "lost_seconds": lost}
    return {"at": at, "below": below, "trials": trials}


def _ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def resumed(folder: Path, path: Path) -> dict[str, float]:
    """Run a second driver until it has trained; when it reached each mark."""
    marks = folder / "marks.json"
    words = [sys.executable, "-m", "tests.benchmarks.resume", "--alone", str(path), "--output", str(marks)]
    with (folder / "second.log").open("w") as log:
        settings = environment() | {"PYTHONPATH": str(ROOT)}
        driver = subprocess.Popen(words, cwd=folder, env=settings, stdout=log, stderr=log)
    try:
        until("new epoch", lambda: driver.poll() is not None or "epoch" in _read(marks))
    finally:
        driver.send_signal(signal.SIGTERM)
        driver.wait(PATIENCE_SECONDS)
    found = _read(marks)
    assert "epoch" in found, (folder / "second.log").read_text()
    return found


def _read(marks: Path) -> dict[str, float]:
    lines = marks.read_text().splitlines() if marks.exists() else []
    return dict(json.loads(line) for line in lines)


def alone(path: Path, marks: Path) -> int:
    """The second driver: the command line with marks."""
    passed: set[str] = set()
    held: dict[str, int] = {}

    def mark(name: str) -> None:
        if name not in passed:
            passed.add(name)
            with marks.open("a") as file:
                file.write(json.dumps([name, time.time()]) + "\n")

    from launch import main as launch

    mark("python")
    import mlflow

    from mwm.runner.execution import cluster, driver, recorder
    from mwm.runner.tracking import follower

    assert mlflow, "imported by the follower when it is made, and here for its time to be told apart"
    mark("libraries")

    def begun(ledger: Any, name: str, _: Any) -> None:
        mark("trial")
        held[name] = len((ledger.results.store.checkpoint(name) or {"rows": []})["rows"])

    def arrived(_: Any, name: str, rows: Sequence[Any]) -> None:
        if rows and rows[-1].epoch > held[name]:
            mark("epoch")

    _around(driver, "validate", after=lambda *_: mark("data"))
    _around(follower.MlflowFollower, "__init__", after=lambda *_: mark("mlflow"))
    _around(cluster, "run_trials", before=lambda *_: mark("plan"))
    _around(recorder.SweepRecorder, "start", after=begun)
    _around(recorder.SweepRecorder, "rows", after=arrived)
    _around(cluster, "check_resources", before=lambda *_: mark("ray"))
    return launch(["run", str(path), "--resume"])


def _ignored(*_: Any) -> None:
    """Nothing is done."""


def _around(
    owner: Any, name: str, *, before: Callable[..., None] = _ignored, after: Callable[..., None] = _ignored
) -> None:
    """Have something done at every call of a function."""
    inner = getattr(owner, name)

    def outer(*given: Any, **named: Any) -> Any:
        before(*given)
        result = inner(*given, **named)
        after(*given)
        return result

    setattr(owner, name, outer)


def measured(seed: int) -> dict[str, Any]:
    """One death and one resumption: seconds of each part, and epochs lost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "sweep.yaml"
        path.write_text(yaml.safe_dump(tree()))
        death = killed(folder, path, seed)
        below = death.pop("below")
        began = time.time()
        marks = resumed(folder, path)
        gone = until("end of the dead driver's processes", lambda: all(map(_ended, below)))
    moments = [began, *(marks[part] for part in PARTS)]
    parts = {part: moments[i + 1] - moments[i] for i, part in enumerate(PARTS)}
    lost = [one["lost_seconds"] / one["epoch_seconds"] for one in death["trials"].values()]
    death["processes_gone"] = gone - death["at"]
    return {"death": death, "parts": parts, "seconds": moments[-1] - began, "epochs_lost": lost}


def main() -> None:
    """Kill and resume some times; print the means and the worst."""
    made = parser(__doc__)
    made.add_argument("--times", type=int, default=3, help="how many drivers are killed")
    made.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    asked = made.parse_args()
    if asked.alone:
        sys.exit(alone(asked.alone.resolve(), asked.output))
    here, runs = machine(), [measured(seed) for seed in range(asked.times)]
    lines = [(said, _spread([run["parts"][part] for run in runs])) for part, said in PARTS.items()]
    lines.append(("from --resume to training again", _spread([run["seconds"] for run in runs])))
    lines.append(("last process of the dead driver gone by", _spread([run["death"]["processes_gone"] for run in runs])))
    lengths = [one["epoch_seconds"] for run in runs for one in run["death"]["trials"].values()]
    lines.append(("an epoch", _spread(lengths)))
    lost = [epochs for run in runs for epochs in run["epochs_lost"]]
    show("seconds (worst)", ("part", "s"), lines)
    show("epochs lost per running trial", ("", "epochs"), [("mean (worst)", _spread(lost))])
    publish(asked.output, here, {"runs": runs})


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f} ({max(values):.2f})"


if __name__ == "__main__":
    main()
