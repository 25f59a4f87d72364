"""Where the victims of a sweep come from: a grid, chance, or what the victims before have shown."""

from __future__ import annotations

import json
import math
import random
import sqlite3
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mwm.config.randomness import derive_seed
from mwm.runner.sweeps.space import Domain, expand, grid_options, sample
from mwm.runner.sweeps.sweep import Limits, OptunaSearch, RandomSearch, Sweep, decode_victim, unique_victims
from mwm.runner.sweeps.trial_queue import VictimSource
from mwm.storage.addresses import file_uri, sqlite_uri
from mwm.storage.lock import knows_record_locks
from mwm.trials.trial import Victim

STUDY = "optuna.db"
"""The study of a search, in the folder of the sweep's results."""


class FixedSource:
    """Victims known beforehand: a grid, or random points."""

    def __init__(self, sweep: Sweep) -> None:
        self._victims = unique_victims(_listed(sweep))
        self.total = len(self._victims)
        self._next = iter(enumerate(self._victims))

    def ask(self) -> tuple[int, Victim] | None:
        """The next victim of the list."""
        return next(self._next, None)

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        """Measures change nothing here."""


class LimitedSource:
    """Victims up to the limits of a sweep; after that there are no more, and `total` is what was asked for."""

    def __init__(self, source: VictimSource, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock, self._asked = source, clock, 0
        self._until = clock() + 3600 * limits.hours if limits.hours else math.inf
        self.total = min(source.total, limits.victims or source.total)
        self.spent = False

    def ask(self) -> tuple[int, Victim] | None:
        """The next victim, unless a limit is reached."""
        if self._asked < self.total and self._clock() >= self._until:
            self.total, self.spent = self._asked, True
        if self._asked >= self.total:
            return None
        self._asked += 1
        return self._source.ask()

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        """Passed on."""
        self._source.tell(number, measures)


def _listed(sweep: Sweep) -> Iterator[Victim]:
    search = sweep.search
    if not isinstance(search, RandomSearch):
        yield from map(decode_victim, expand(sweep.victim, grid_options, "victim"))
        return
    for number in range(search.num_samples):
        chance = random.Random(derive_seed(search.seed, "sample", number))
        point = sample(sweep.victim, lambda here, chance=chance: _draw(here, chance), "victim")  # type: ignore[misc]
        yield from map(decode_victim, expand(point, grid_options, "victim"))


def _draw(here: Domain, chance: random.Random) -> Any:
    low, high = here.options[0], here.options[-1]
    match here.kind:
        case "uniform":
            return chance.uniform(low, high)
        case "loguniform":
            return low * (high / low) ** chance.random()
        case "integers":
            return chance.randint(low, high)
    return chance.choice(here.options)


def study_storage(folder: Path) -> Any:
    """Where Optuna keeps the study of the sweep whose results lie in `folder`."""
    import optuna

    database, lockable = folder / STUDY, knows_record_locks(folder)
    # Where a file system knows no locks, the sweep's own keeps every other process off the study.
    unlocked = partial(sqlite3.connect, f"{file_uri(database)}?nolock=1", uri=True, check_same_thread=False)
    return optuna.storages.RDBStorage(sqlite_uri(database), {} if lockable else {"creator": unlocked})


class OptunaSource:
    """Victims that Optuna suggests; its study lies in `folder` and is continued there."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        import optuna

        search = sweep.search
        assert isinstance(search, OptunaSearch), "only an Optuna search is suggested"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._tree, self._objectives, self.total = sweep.victim, search.objectives, search.num_samples
        self._study = optuna.create_study(
            storage=study_storage(folder),
            study_name=sweep.name,
            load_if_exists=True,
            directions=["minimize" if name == "worst_log10_p" else "maximize" for name in search.objectives],
        )
        begun = self._study.trials
        self._study.sampler = _sampler(derive_seed(search.seed, "optuna", len(begun)) % 2**32)
        self._again = deque(trial for trial in begun if "victim" in trial.user_attrs)
        self._asked = 0
        self._open: set[int] = set()

    def ask(self) -> tuple[int, Victim] | None:
        """First those of an interrupted search, as they were; then new ones."""
        if self._asked >= self.total:
            return None
        self._asked += 1
        if self._again:
            known = self._again.popleft()
            if not known.state.is_finished():
                self._open.add(known.number)
            return known.number, decode_victim(json.loads(known.user_attrs["victim"]))
        trial = self._study.ask()
        tree = sample(self._tree, lambda here: _suggest(trial, here), "victim")
        trial.set_user_attr("victim", json.dumps(tree))
        self._open.add(trial.number)
        return trial.number, decode_victim(tree)

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        """Give Optuna the objectives of a victim whose attacks are all done."""
        import optuna

        if number not in self._open:
            return
        self._open.remove(number)
        if measures is None or any(name not in measures for name in self._objectives):
            self._study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(number, [measures[name] for name in self._objectives])


def _sampler(seed: int) -> Any:
    import optuna

    with warnings.catch_warnings():  # of an experimental option: without it, victims trained side by side are all alike
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _suggest(trial: Any, here: Domain) -> Any:
    low, high = here.options[0], here.options[-1]
    match here.kind:
        case "uniform" | "loguniform":
            return trial.suggest_float(here.path, low, high, log=here.kind == "loguniform")
        case "integers":
            return trial.suggest_int(here.path, low, high)
    return here.options[trial.suggest_categorical(here.path, list(range(len(here.options))))]


def victim_source(sweep: Sweep, folder: Path) -> LimitedSource:
    """Where the victims of a sweep come from."""
    source = OptunaSource(sweep, folder) if isinstance(sweep.search, OptunaSearch) else FixedSource(sweep)
    return LimitedSource(source, sweep.limits)
