"""What recording costs: the same sweep recorded and unrecorded, 4 trials at a time on SQLite and 8 on PostgreSQL.

The two arms take turns, each in a process and a folder of its own. Their wall-clock differs by chance as well, so the
cost is counted directly, too: the CPU time of the thread that follows the journal to MLflow, the time for which the
driver's own thread writes the journal, and the CPU time of the servers where they share the machine, as a share of all
CPU time there was.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
from rich.console import Console

from mwm.runner.execution.cluster import ray_cluster
from mwm.runner.reporting.progress import Progress
from mwm.runner.sweeps.search import victim_source
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.sweeps.validation import validate
from mwm.runner.tracking.follower import Followed, MlflowFollower
from mwm.runner.tracking.runs import Status
from mwm.runner.workspace.journal import Journal, read_events
from mwm.runner.workspace.location import PICTURES
from mwm.storage.store import Store
from mwm.trials.outcome import Outcome
from mwm.trials.provenance import provenance
from mwm.trials.trial import Trial
from mwm.trials.validation import Places
from tests.benchmarks.bench import ROOT, machine, parser, publish, show
from tests.benchmarks.driving import TimedResults, Watched, run_opened, sweep_of
from tests.helpers.servers import mlflow_server, postgres

TARGET = 0.02


class Silent:
    """In place of a follower: nothing goes to MLflow."""

    sending = 0.0

    def run_id(self, digest: str) -> str:
        del digest
        return ""

    def close(self, status: Status, ending: Any = None) -> int:
        del status, ending
        return 0


class Timed(MlflowFollower):
    """A follower that notes how many CPU seconds its thread spent."""

    sending = 0.0

    def _follow(self) -> None:
        began = time.thread_time()
        super()._follow()
        self.sending += time.thread_time() - began


class TimedJournal(Journal):
    """A journal that notes for how many seconds it held its caller up."""

    held = 0.0

    def _write(self, name: str, **content: Any) -> None:
        began = time.perf_counter()
        super()._write(name, **content)
        self.held += time.perf_counter() - began


class Clocked(Watched):
    """A recorder that notes when the first trial began and the last one ended."""

    first, last = math.inf, 0.0

    def start(self, name: str, trial: Trial) -> None:
        self.first = min(self.first, time.monotonic())
        super().start(name, trial)

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        super().finish(name, trial, outcome)
        self.last = time.monotonic()


def sweep(slots: int, waves: int, epochs: int, width: int) -> Sweep:
    """Victims alone, so many at a time on all cores of this machine."""
    return sweep_of(
        {
            "name": "recording",
            "victim": {
                "data": "digits",
                "split": {"validation": 100, "queries": 100},
                "model": {"kind": "cnn", "width": width},
                "recipe": {"epochs": epochs, "batch_size": 64, "lr": 0.05, "momentum": 0.9, "schedule": "cosine"},
                "scheme": {"kind": "margin", "num_queries": 20, "step_size": 0.01},
                "seed": {"grid": list(range(slots * waves))},
            },
            "resources": {"victim": {"cpus": len(os.sched_getaffinity(0)) / slots}},
        }
    )


def conducted(asked: Sweep, folder: Path, uri: str | None) -> dict[str, float]:
    """Run the sweep in this process, recorded at `uri` or not at all."""
    sets, _ = validate(asked, Places())
    results = folder / "results" / asked.name
    results.mkdir(parents=True)
    followed = Followed(asked.name, partial(read_events, results), results, results / PICTURES)
    mlflow: Any = Silent() if uri is None else Timed(uri, followed, tags=provenance())
    plan = TrialQueue(victim_source(asked, results), [], sets)
    progress = Progress(Console(file=io.StringIO()))
    journal = TimedJournal(results, print)
    kept = TimedResults(asked, results, Store(folder / "store"), print, mlflow=mlflow)
    ledger = Clocked(kept, journal, sets, progress=progress)
    with ray_cluster(None):
        run_opened(plan, ledger, asked)
    driver = sum(psutil.Process().cpu_times()[:2])
    assert ledger.results.count("done") == plan.victims, "a trial was not done"
    began = time.monotonic()
    ledger.close("FINISHED", complete=True)
    closing = time.monotonic() - began
    epochs = [row["epoch_seconds"] for name in ledger.results.outcomes for row in ledger.results.store.rows(name)]
    return {
        "seconds": ledger.last - ledger.first,
        "trial_seconds": fmean(outcome.seconds or 0.0 for _, outcome in ledger.results.outcomes.values()),
        "epoch_seconds": fmean(epochs),
        "held_seconds": journal.held,
        "sending_seconds": mlflow.sending,
        "driver_seconds": driver,
        "closing_seconds": closing,
    }


def arm(
    options: argparse.Namespace, slots: int, uri: str | None, servers: Sequence[psutil.Process]
) -> dict[str, float]:
    """One arm in a process of its own, and the CPU seconds of the servers meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"slots": slots, "waves": options.waves, "epochs": options.epochs, "width": options.width}
        words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        place = "" if uri is None else uri.format(folder=folder)
        command = [sys.executable, "-m", "tests.benchmarks.recording", *words, "--arm", folder, "--uri", place]
        before = _spent(servers)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures | {"server_seconds": _spent(servers) - before}


def _spent(servers: Sequence[psutil.Process]) -> float:
    """CPU seconds of processes and all that they have started."""
    family = [one for server in servers for one in (server, *server.children(recursive=True))]
    return sum(sum(one.cpu_times()[:4]) for one in family)


def case(options: argparse.Namespace, slots: int, uri: str, servers: Sequence[psutil.Process]) -> dict[str, Any]:
    """Recorded and unrecorded in turns: off, on, on, off, ..."""
    found: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
    for turn in range(options.turns):
        for name in ("off", "on") if turn % 2 == 0 else ("on", "off"):
            found[name].append(arm(options, slots, uri if name == "on" else None, servers))
    mean = {name: {key: fmean(one[key] for one in arms) for key in arms[0]} for name, arms in found.items()}
    on, whole = mean["on"], mean["on"]["seconds"] * len(os.sched_getaffinity(0))
    parts = {name: on[f"{name}_seconds"] / whole for name in ("held", "sending", "server")}
    return {
        "slots": slots,
        "trials": slots * options.waves,
        "wall_clock_cost": on["seconds"] / mean["off"]["seconds"] - 1,
        "cpu_share": parts | {"together": sum(parts.values())},
        "mean": mean,
        "arms": found,
    }


def main() -> None:
    """Both cases, or with `--arm` one arm of one of them."""
    options = _options()
    if options.arm is not None:
        asked = sweep(options.slots, options.waves, options.epochs, options.width)
        print(json.dumps(conducted(asked, options.arm, options.uri or None)))
        return
    about = machine()
    cases = {"SQLite": case(options, 4, "sqlite:///{folder}/mlflow.db", [])}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgres())
        server = stack.enter_context(mlflow_server(database.make("runs"), folder))
        served = [psutil.Process(server.pid), psutil.Process(database.pid)]
        cases["PostgreSQL behind a server"] = case(options, 8, server.uri, served)
    headings = ["", "trials at a time", "s per trial", "s per epoch", "wall-clock", "driver held", "sending", "servers"]
    lines = []
    for name, one in cases.items():
        share, on = one["cpu_share"], one["mean"]["on"]
        shares = [f"{share[part]:.2%}" for part in ("held", "sending", "server")]
        times = [f"{on['trial_seconds']:.1f}", f"{on['epoch_seconds']:.2f}", f"{one['wall_clock_cost']:+.2%}"]
        lines.append([name, str(one["slots"]), *times, *shares])
    title = f"recording against none: wall-clock, and shares of all CPU time (target {TARGET:.0%})"
    show(title, headings, lines)
    publish(options.output, about, {"target": TARGET, "cases": cases})


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--waves", type=int, default=2, help="trials that each slot runs one after the other")
    made.add_argument("--epochs", type=int, default=25)
    made.add_argument("--width", type=int, default=16, help="of the network; an epoch should take about a second")
    made.add_argument("--turns", type=int, default=2, help="how often each arm is run")
    made.add_argument("--slots", type=int, help=argparse.SUPPRESS)
    made.add_argument("--arm", type=Path, help=argparse.SUPPRESS)
    made.add_argument("--uri", help=argparse.SUPPRESS)
    return made.parse_args()


if __name__ == "__main__":
    main()
