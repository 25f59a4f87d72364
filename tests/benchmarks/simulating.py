"""The driver of a sweep without Ray: every trial is done the moment it is asked for, and all of it is recorded.

What the workers would have written is copied from one real victim and one real attack. Then the same sweep is gone
through again, as a resumed one is: everything is known to the store, and to MLflow.
"""

from __future__ import annotations

import cProfile
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mwm.runner.reporting.tables.terminal import tables
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import PERTURBED, QUERIES, WEIGHTS, Store
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs, victim_digest
from tests.benchmarks.driving import Watched, functions, npz, opened, sample, size, sweep_of
from tests.helpers.tracked import flushed

ATTACKS = 4
SETTINGS = 20
"""Victims differ in this many weights of the watermark, and in seeds."""


PATIENCE_SECONDS = 7200.0
"""How long MLflow may take to write what the simulation gave it at once."""


def tree(path: Path, victims: int) -> dict[str, Any]:
    """A sweep of trivial trials on the data set at `path`; `victims` is a multiple of SETTINGS, or smaller."""
    weights = [round(0.1 + number / 1000, 4) for number in range(min(SETTINGS, victims))]
    return {
        "name": "growth",
        "victim": {
            "data": {"kind": "npz", "path": str(path), "flip": False, "pad": 0},
            "split": {"validation": 12, "queries": 12},
            "model": {"kind": "cnn", "width": 1, "depth": 1},
            "recipe": {"epochs": 1, "batch_size": 16, "lr": 0.1},
            "scheme": {"kind": "trigger_set", "num_queries": 6, "weight": {"grid": weights}},
            "seed": {"grid": list(range(victims // len(weights)))},
        },
        "attacks": [{"kind": "extraction", "seed": {"grid": list(range(ATTACKS))}}],
        "attack_unmarked": True,
    }


class Clock:
    """CPU seconds of this thread spent in each part: unlike the wall-clock they stay as they are on a busy machine."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time what is done inside."""
        began = time.thread_time()
        yield
        self.parts[part] += time.thread_time() - began

    @contextmanager
    def others(self, part: str) -> Iterator[None]:
        """Time what other threads do meanwhile."""
        began = time.process_time() - time.thread_time()
        yield
        self.parts[part] += time.process_time() - time.thread_time() - began


@dataclass
class Model:
    """What workers leave behind: the files and the outcome of a real victim and of a real attack on it."""

    folders: tuple[Path, Path]
    outcomes: tuple[Outcome, Outcome]
    row: EpochMetrics

    def write(self, store: Store, name: str, trial: Trial, sets: TrialInputs) -> Outcome:
        """Leave behind what a worker would have, under another name."""
        which = int(trial.attack is not None)
        store.folder(name).mkdir(parents=True, exist_ok=True)
        for file in (WEIGHTS, QUERIES, PERTURBED)[: 1 if which else 3]:
            shutil.copy(self.folders[which] / file, store.folder(name) / file)
        outcome = replace(self.outcomes[which], digest=name, victim_digest=victim_digest(trial.victim, sets))
        store.commit(name, asdict(outcome), [asdict(self.row)])
        return outcome


def trained(sweep: Sweep, sets: TrialInputs, folder: Path) -> Model:
    """Train the first victim of a sweep and steal it, for others to be made from."""
    store, victim, (_, attack) = Store(folder), sweep.victim_specs[0], sweep.attack_specs[0]
    ends, row = [], None
    for trial in (Trial(victim=victim), Trial(victim=victim, attack=attack.resolve(victim))):
        *_, row, outcome = run(trial, sets, store, torch.device("cpu"))
        assert isinstance(outcome, Outcome)
        ends.append(outcome)
    assert isinstance(row, EpochMetrics)
    return Model((store.folder(ends[0].digest), store.folder(ends[1].digest)), (ends[0], ends[1]), row)


def gone_through(plan: TrialQueue, ledger: Watched, model: Model, clock: Clock) -> None:
    """Run a plan to its end; what the store has is not made again."""
    while True:
        with clock("plan"):
            item = plan.next()
        if item is None:
            break
        with clock("store: look up"):
            outcome = ledger.find_finished(item[0])
        if outcome is None:
            outcome = _made(item, ledger, model, clock)
        else:
            with clock("ledger"):
                ledger.replay(*item, outcome)
        with clock("plan"):
            plan.finish(*item, outcome)
    assert plan.open == 0, "a trial was never finished"


def _made(item: tuple[str, Trial], ledger: Watched, model: Model, clock: Clock) -> Outcome:
    with clock("ledger"):
        ledger.start(*item)
    with clock("(worker)"):
        outcome = model.write(ledger.results.store, *item, ledger.sets)
    with clock("ledger"):
        ledger.rows(item[0], [model.row])
        ledger.finish(*item, outcome)
    return outcome


def _recorded(sweep: Sweep, folder: Path, sets: TrialInputs, model: Model, clock: Clock) -> int:
    """One run of a sweep from its beginning to its table; the number of its trials."""
    with clock("open"):
        plan, ledger = opened(sweep, folder, sets)
    with clock.others("MLflow's thread"):
        gone_through(plan, ledger, model, clock)
        assert flushed(ledger.mlflow, PATIENCE_SECONDS) == 0, "not all was recorded"
    with clock("save"):
        ledger.results.save(complete=False)
    with clock("close"):
        ledger.close("FINISHED", complete=True)
    with clock("table"):
        list(tables(ledger.results.all()))
    assert ledger.results.count("done") == plan.victims + plan.attacks, "a trial was not done"
    return len(ledger.results.outcomes)


def simulated(victims: int, *, profile: bool) -> dict[str, Any]:
    """Run a sweep twice, the second time as one that is resumed; CPU seconds of each part."""
    torch.set_num_threads(1)
    clocks = {"": Clock(), "again: ": Clock()}
    profiler, began = cProfile.Profile(time.thread_time), sample(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep = sweep_of(tree(npz(folder / "data.npz"), victims))
        with clocks[""]("check"):
            sets, _ = validate(sweep)
        model = trained(sweep, sets, folder / "model")
        if profile:
            profiler.enable()
        wall = []
        for clock in clocks.values():
            start = time.perf_counter()
            trials = _recorded(sweep, folder, sets, model, clock)
            wall.append(time.perf_counter() - start)
        profiler.disable()
        found = {"sizes": {part: size(folder / part) for part in ("results", "store", "mlflow.db")}}
    parts = {f"{prefix}{part}": took for prefix, clock in clocks.items() for part, took in clock.parts.items()}
    return found | {
        "trials": trials,
        "parts": parts,
        "wall": wall,
        "rss_start": began.rss,
        "rss_end": sample(0).rss,
        "functions": functions(profiler) if profile else {},
    }
