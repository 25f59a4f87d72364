"""A sweep conducted in this process and watched: what the benchmarks of sweeps share."""

from __future__ import annotations

import cProfile
import io
import pstats
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from mwm.config.spec import decode
from mwm.runner.execution.recorder import SweepRecorder
from mwm.runner.execution.results import SweepResults
from mwm.runner.reporting.progress import Progress
from mwm.runner.sweeps.search import victim_source
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.tracking.follower import Followed, MlflowFollower
from mwm.runner.workspace.heartbeat import Heartbeat
from mwm.runner.workspace.journal import Journal, read_events
from mwm.runner.workspace.location import PICTURES
from mwm.storage.store import OUTCOME, Store
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.provenance import provenance
from mwm.trials.trial import Trial, TrialInputs
from tests.helpers.records import arrays

MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """The driver after so many trials: seconds on the clock, its own CPU seconds, its memory in MiB."""

    trials: int
    wall: float
    cpu: float
    rss: float


@dataclass
class TimedResults(SweepResults):
    """Results that note how long each save took."""

    saves: list[float] = field(default_factory=list)

    def save(self, *, complete: bool) -> None:
        began = time.monotonic()
        super().save(complete=complete)
        self.saves.append(time.monotonic() - began)


@dataclass
class Watched(SweepRecorder):
    """A recorder that notes when each trial began and ended, and every `every` trials how the driver is."""

    results: TimedResults
    _: KW_ONLY
    progress: Progress
    every: int = 50
    starts: dict[str, float] = field(default_factory=dict)
    first_rows: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def start(self, name: str, trial: Trial) -> None:
        self.starts.setdefault(name, time.time())
        super().start(name, trial)

    def rows(self, name: str, rows: Sequence[EpochMetrics]) -> None:
        if rows:
            self.first_rows.setdefault(name, time.time())
        super().rows(name, rows)

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        super().finish(name, trial, outcome)
        if len(self.results.outcomes) % self.every == 0:
            self.samples.append(sample(len(self.results.outcomes)))

    @property
    def mlflow(self) -> MlflowFollower:
        """Who brings the journal to MLflow."""
        assert self.results.mlflow is not None
        return self.results.mlflow

    def spans(self) -> dict[str, tuple[float, float]]:
        """When (seconds since 1970) each trial trained here was heard to begin, and when its worker wrote its outcome.

        Both ends lie within the trial, so what is counted is at most the time that its slot was busy.
        """
        ends = {name: (self.results.store.folder(name) / OUTCOME).stat().st_mtime for name in self.starts}
        return {name: (self.starts[name], end) for name, end in ends.items() if end > self.starts[name]}


def sample(trials: int) -> Sample:
    """How this process is now."""
    own = psutil.Process()
    times = own.cpu_times()
    return Sample(trials, time.time(), times.user + times.system, own.memory_info().rss / MIB)


def opened(sweep: Sweep, folder: Path, sets: TrialInputs, *, attacks: bool = True) -> tuple[TrialQueue, Watched]:
    """A queue and a recorder as the product makes them, in `folder`; without `attacks` the victims alone."""
    results = folder / "results" / sweep.name
    results.mkdir(parents=True, exist_ok=True)
    asked = [attack for _, attack in sweep.attack_specs] if attacks else []
    plan = TrialQueue(victim_source(sweep, results), asked, sets, attack_unmarked=sweep.attack_unmarked)
    followed = Followed(sweep.name, partial(read_events, results), results, results / PICTURES)
    mlflow = MlflowFollower(f"sqlite:///{(folder / 'mlflow.db').resolve()}", followed, tags=provenance())
    progress = Progress(Console(file=io.StringIO()))
    journal = Journal(results, progress.warn, followers=[progress.follow])
    journal.begin(totals=plan.totals, provenance=provenance())
    store = Store(folder / "store")
    kept = TimedResults(sweep, results, store, progress.warn, mlflow=mlflow)
    return plan, Watched(kept, journal, sets, progress=progress)


def run_opened(queue: TrialQueue, recorder: Watched, sweep: Sweep) -> None:
    """Run what was opened on the Ray that was joined, as the product does."""
    from mwm.runner.execution.cluster import run_trials
    from mwm.runner.execution.searcher import TrialSearcher

    store, sets = recorder.results.store, recorder.sets
    with closing(Heartbeat(recorder.results.folder, recorder.progress.snapshot)):
        searcher = TrialSearcher(queue, recorder, store=store, sets=sets)
        run_trials(searcher, sweep, folder=recorder.results.folder, sets=sets, store=store.root)


def npz(path: Path, *, images: int = 90, side: int = 6, classes: int = 3) -> Path:
    """Write a data set that can be learnt at once."""
    np.savez(path, **arrays(images, (side, side, 1), classes, 0))
    return path


def sweep_of(tree: dict[str, Any]) -> Sweep:
    """A sweep from the tree of its YAML file."""
    sweep: Sweep = decode(Sweep, tree)
    return sweep


def size(folder: Path) -> float:
    """MiB in a file or a folder."""
    files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / MIB


def functions(profiler: cProfile.Profile) -> dict[str, float]:
    """Cumulative seconds of every function that counts, under the end of its path and its name."""
    stats: Any = pstats.Stats(profiler)
    whole = max(entry[3] for entry in stats.stats.values())
    return {
        f"{'/'.join(Path(path).parts[-2:])}:{line} {name}": entry[3]
        for (path, line, name), entry in stats.stats.items()
        if entry[3] > whole / 2000
    }
