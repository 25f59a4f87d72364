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

from mwm.check import check
from mwm.plan import Plan
from mwm.report import table
from mwm.stage import run
from mwm.store import PERTURBED, QUERIES, WEIGHTS, Store
from mwm.sweep import Sweep, corners, thefts
from mwm.trial import Outcome, Row, Sets, Trial, complete_attack, victim_digest
from tests.benchmarks.driving import Watched, functions, npz, opened, sample, size, sweep_of

ATTACKS = 4
SETTINGS = 20
"""Victims differ in this many weights of the watermark, and in seeds."""


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
            "scheme": {"kind": "base", "num_queries": 6, "weight": {"grid": weights}},
            "seed": {"grid": list(range(victims // len(weights)))},
        },
        "attacks": [{"kind": "extraction", "seed": {"grid": list(range(ATTACKS))}}],
    }


class Clock:
    """Seconds spent in each part."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.parts[part] += time.perf_counter() - began


@dataclass
class Model:
    """What workers leave behind: the files and the outcome of a real victim and of a real attack on it."""

    folders: tuple[Path, Path]
    outcomes: tuple[Outcome, Outcome]
    row: Row

    def write(self, store: Store, name: str, trial: Trial, sets: Sets) -> Outcome:
        """Leave behind what a worker would have, under another name."""
        which = int(trial.attack is not None)
        store.folder(name).mkdir(parents=True, exist_ok=True)
        for file in (WEIGHTS, QUERIES, PERTURBED)[: 1 if which else 3]:
            shutil.copy(self.folders[which] / file, store.folder(name) / file)
        outcome = replace(self.outcomes[which], digest=name, victim_digest=victim_digest(trial.victim, sets))
        store.finish(name, asdict(outcome), [asdict(self.row)])
        return outcome


def trained(sweep: Sweep, sets: Sets, folder: Path) -> Model:
    """Train the first victim of a sweep and steal it, for others to be made from."""
    store, victim, (_, attack) = Store(folder), corners(sweep)[0], thefts(sweep)[0]
    ends, row = [], None
    for trial in (Trial(victim=victim), Trial(victim=victim, attack=complete_attack(attack, victim))):
        *_, row, outcome = run(trial, sets, store, torch.device("cpu"))
        assert isinstance(outcome, Outcome)
        ends.append(outcome)
    assert isinstance(row, Row)
    return Model((store.folder(ends[0].digest), store.folder(ends[1].digest)), (ends[0], ends[1]), row)


def gone_through(plan: Plan, ledger: Watched, model: Model, clock: Clock, sets: Sets) -> None:
    """Run a plan to its end; what the store has is not made again."""
    while True:
        with clock("plan"):
            item = plan.next()
        if item is None:
            break
        with clock("store: look up"):
            known = ledger.known(item[0])
        if known is None:
            with clock("ledger and MLflow"):
                ledger.start(*item)
            with clock("(worker)"):
                outcome = model.write(ledger.store, *item, sets)
            with clock("ledger and MLflow"):
                ledger.rows(*item, [model.row])
                ledger.finish(*item, outcome)
        else:
            outcome = known
            with clock("ledger and MLflow"):
                ledger.replay(*item, known)
        with clock("plan"):
            plan.finish(*item, outcome)
    assert plan.open == 0, "a trial was never finished"


def simulated(victims: int, *, profile: bool) -> dict[str, Any]:
    """Run a sweep twice, the second time as one that is resumed; seconds of each part."""
    torch.set_num_threads(1)
    clocks = {"": Clock(), "again: ": Clock()}
    profiler, began = cProfile.Profile(), sample(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep = sweep_of(tree(npz(folder / "data.npz"), victims))
        with clocks[""]("check"):
            sets, _ = check(sweep, download=False)
        model = trained(sweep, sets, folder / "model")
        for clock in clocks.values():
            with clock("open"):
                plan, ledger = opened(sweep, folder, sets)
            if profile:
                profiler.enable()
            gone_through(plan, ledger, model, clock, sets)
            profiler.disable()
            with clock("save"):
                ledger.save(complete=False)
            with clock("close"):
                ledger.close("FINISHED", complete=True)
            with clock("table"):
                table(ledger.results())
        found = {"sizes": {part: size(folder / part) for part in ("results", "store", "mlflow.db")}}
    parts = {f"{prefix}{part}": took for prefix, clock in clocks.items() for part, took in clock.parts.items()}
    return found | {
        "trials": plan.victims + plan.attacks,
        "parts": parts,
        "rss_start": began.rss,
        "rss_end": sample(0).rss,
        "functions": functions(profiler) if profile else {},
    }
