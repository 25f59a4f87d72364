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
from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.storage.addresses import file_uri, sqlite_uri
from mwm.storage.lock import knows_record_locks
from mwm.trials.outcome import UNMARKED
from mwm.trials.trial import TrialInputs, Victim, data_key, filled_in

NOTHING_LEFT = {"worst_query_acc": 0.0, "mean_query_acc": 0.0, "worst_log10_p": 0.0}
"""What attacks leave of a watermark that is not there, where they were skipped."""

LEAST_LACKING = 1e-9
"""A constraint is violated from above 0 on: of a proof that misses the level by nothing that a float can tell."""

STUDY = "optuna.db"
"""The study of a search, in the folder of the sweep's results."""


NO_INPUTS = TrialInputs({})


class FixedSource:
    """Victims known beforehand: a grid, or random points."""

    def __init__(self, sweep: Sweep) -> None:
        self._victims = listed_victims(sweep)
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


def listed_victims(sweep: Sweep) -> list[Victim]:
    """Every victim of a grid, or of random points, in the order in which they are run; each once."""
    return unique_victims(_listed(sweep))


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
    """Victims that Optuna suggests; its study lies in `folder` and is continued there.

    In the study a victim has the sizes of its split that it leaves to its data, which are among `sets`: the study is
    later compared with results, and they have them.
    """

    def __init__(self, sweep: Sweep, folder: Path, sets: TrialInputs = NO_INPUTS) -> None:
        import optuna

        search = sweep.search
        assert isinstance(search, OptunaSearch), "only an Optuna search is suggested"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._sets = sets
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
        tree = self._sized(sample(self._tree, lambda here: _suggest(trial, here), "victim"))
        trial.set_user_attr("victim", json.dumps(tree))
        self._open.add(trial.number)
        return trial.number, decode_victim(tree)

    def _sized(self, tree: Any) -> Any:
        victim = decode_victim(tree)
        if victim.split.is_filled or data_key(victim.data) not in self._sets:
            return tree
        split = filled_in(victim, self._sets).split
        return tree | {"split": tree.get("split", {}) | {"validation": split.validation, "queries": split.queries}}

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        """Give Optuna the objectives of a victim whose attacks are all done.

        One without a watermark violates a constraint, by as many powers of ten as its own proof is above the level: it
        is never on the front, and Optuna prefers every victim that has one, else those that lack least.
        """
        import optuna

        if number not in self._open:
            return
        self._open.remove(number)
        if measures is not None and not measures.get("marked", True):
            self._constrain(number, measures["log10_p"] - math.log10(DEFAULT_LEVEL))
            measures = NOTHING_LEFT | measures
        if measures is None or any(name not in measures for name in self._objectives):
            self._study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(number, [measures[name] for name in self._objectives])

    def _constrain(self, number: int, lacking: float) -> None:
        """Note that a victim carries no watermark, and how far it is from one; noted twice, it stays as it was."""
        import optuna

        trial = self._study.get_trials(deepcopy=False)[number]
        if UNMARKED not in trial.constraints:
            optuna.trial.Trial(self._study, trial._trial_id).set_constraint(UNMARKED, max(lacking, LEAST_LACKING))


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


def victim_source(sweep: Sweep, folder: Path, sets: TrialInputs = NO_INPUTS) -> LimitedSource:
    """Where the victims of a sweep come from; `sets` are its data."""
    source = OptunaSource(sweep, folder, sets) if isinstance(sweep.search, OptunaSearch) else FixedSource(sweep)
    return LimitedSource(source, sweep.limits)
