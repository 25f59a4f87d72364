"""What a sweep has shown so far: its journal, and the results folder, which is written from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mwm.config.spec import decode, encode, flatten
from mwm.runner.execution.page import late_measures, victim_measures
from mwm.runner.reporting import export
from mwm.runner.reporting.figures.catalogue import draw_pictures
from mwm.runner.reporting.figures.queries import draw_query_grid
from mwm.runner.reporting.report.files import write_report
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.follower import MlflowFollower
from mwm.runner.tracking.position import FOLLOWED
from mwm.runner.tracking.runs import CONFIG, Status, source_tags
from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import Journal
from mwm.runner.workspace.location import PICTURES
from mwm.storage.store import Store
from mwm.trials.artifacts import class_names, perturbed_images, query_set
from mwm.trials.names import trial_name
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial, TrialInputs, data_key, victim_digest

SAVE_SECONDS = 5.0
"""The results folder is at most this old, or ten times the time that writing it takes."""


@dataclass
class SweepResults:
    """The trials of a sweep that have ended, and the folder of its results.

    The folder is not written before `save_at` (monotonic seconds), but in the end; `copy` is told whenever it was.
    `began` is when the sweep did. `mlflow` gives the ids of runs, and takes the files in the end; `page`
    writes the rows of all trials to its experiment.
    """

    sweep: str
    folder: Path
    mlflow: MlflowFollower
    _: KW_ONLY
    store: Store
    warn: Callable[[str], object]
    copy: Callable[[Path], object] = Path.exists
    page: Callable[..., object] | None = None
    began: float = field(default_factory=time.monotonic)
    save_at: float = 0.0
    outcomes: dict[str, tuple[Trial, Outcome]] = field(default_factory=dict)
    earlier: dict[str, tuple[Trial, Outcome]] = field(default_factory=dict)
    _saved: list[TrialResult] = field(default_factory=list)

    def add(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""
        self.outcomes[name] = (trial, outcome)
        if time.monotonic() >= self.save_at:
            with self.warn_on_error():
                self.save(complete=False)

    @contextmanager
    def warn_on_error(self) -> Iterator[None]:
        """A full disk or a damaged picture is told and ends no sweep: all can be written again from the store."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.warn(f"warning: {self.folder}: {error}")

    def draw_queries(self, trial: Trial, outcome: Outcome) -> None:
        """Draw the queries of a victim that is done, if that was not done before."""
        path = self.folder / PICTURES / f"{outcome.digest}.png"
        if trial.attack is not None or outcome.status != "done" or path.exists():
            return
        with self.warn_on_error():
            path.parent.mkdir(parents=True, exist_ok=True)
            name = outcome.digest
            asked, moved = query_set(self.store, name), perturbed_images(self.store, name)
            draw_query_grid(asked, moved, path, class_names=class_names(self.store, name))

    def results(self) -> list[TrialResult]:
        """Every trial so far, those of earlier sessions among them."""
        ended = self.earlier | self.outcomes
        return [TrialResult(trial, outcome, self.mlflow.run_id(name)) for name, (trial, outcome) in ended.items()]

    def save(self, *, complete: bool) -> None:
        """Write the results folder."""
        began = time.monotonic()
        try:
            self._saved = self.results()
            export.write_results(self.folder, self.sweep, self._saved, seconds=began - self.began, complete=complete)
            self.copy(self.folder)
        finally:
            took = time.monotonic() - began
            self.save_at = time.monotonic() + max(SAVE_SECONDS, 10 * took)

    def conclude(self, status: Status, *, complete: bool) -> int:
        """Write what only the whole sweep knows, here and to MLflow; the number of writes that MLflow did not take."""
        more: dict[str, Any] = {}
        try:
            with self.warn_on_error():
                draw_pictures(self.folder, self.results())
            with self.warn_on_error():
                self.save(complete=complete)
                if self.results():
                    write_report(self.folder)
            self.mlflow.drain(status)
            self._save_new_ids(complete=complete)
            rows = result_rows(self.results())
            more["late"], more["files"] = late_measures(rows), self._files()
            more["last"] = self.page and partial(self.page, rows=rows)
        finally:
            left = self.mlflow.close(status, **more)
        self._save_new_ids(complete=complete)
        return left

    def _save_new_ids(self, *, complete: bool) -> None:
        """Save again what MLflow gave no ids to in time."""
        if self._saved != self.results():
            with self.warn_on_error():
                self.save(complete=complete)

    def _files(self) -> list[Path]:
        """The files of the sweep's run."""
        own = (path for path in sorted(self.folder.glob("*.*")) if path.name not in (HEARTBEAT, FOLLOWED))
        return [path for path in own if path.suffix in (".csv", ".json", ".png", ".html")]

    def count(self, status: str) -> int:
        """How many trials ended so."""
        return sum(outcome.status == status for _, outcome in self.outcomes.values())


@dataclass
class SweepRecorder(SweepResults):
    """The driver's record of a sweep: everything that happens goes to its `journal`.

    `cached` are the trials that were not run by this command.
    """

    _: KW_ONLY
    journal: Journal
    sets: TrialInputs
    cached: set[str] = field(default_factory=set)
    _attacks: dict[str, list[tuple[Trial, Outcome]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for trial, outcome in self.journal.earlier:
            self.earlier[outcome["digest"]] = decode(Trial, trial), Outcome(**outcome)

    def add(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""
        if trial.attack is not None:
            self._attacks.setdefault(outcome.victim_digest, []).append((trial, outcome))
        super().add(name, trial, outcome)

    def start(self, name: str, trial: Trial) -> None:
        """A trial has begun, or is retried."""
        data = self.sets[data_key(trial.victim.data)].digest
        self._start(name, trial, victim=victim_digest(trial.victim, self.sets), data=data)

    def _start(self, name: str, trial: Trial, *, victim: str, data: str) -> None:
        epochs = trial.victim.recipe.epochs if trial.attack is None else trial.attack.epochs()
        told: dict[str, Any] = {"epochs": epochs, "trial": encode(trial), "victim_digest": victim, "data_digest": data}
        self.journal.start(name, _kind(trial), trial_name(trial), **told)

    def find_finished(self, name: str) -> Outcome | None:
        """What a finished trial measured, or that this sweep ended it early; None if it is to be run."""
        outcome = self.store.outcome(name)
        if outcome is not None:
            return Outcome(**outcome)
        _, earlier = self.earlier.get(name, (None, None))
        return earlier if earlier is not None and earlier.status == "stopped" else None

    def replay(self, name: str, trial: Trial, outcome: Outcome, *, cached: bool = False) -> None:
        """Tell of a trial that ended earlier; needs no data sets. `cached`: it was not run by this command."""
        if cached:
            self.cached.add(name)
        if self.journal.holds(asdict(outcome)):
            self.draw_queries(trial, outcome)
            self.journal.cached(name, _kind(trial), outcome.status, seconds=outcome.seconds)
            self.add(name, trial, outcome)
            return
        if not self.journal.is_under_way(name):
            self._start(name, trial, victim=outcome.victim_digest, data=outcome.data_digest)
        if outcome.status == "done":
            with self.warn_on_error():
                self.journal.epochs(name, self.store.rows(name))
        self.finish(name, trial, outcome)

    def rows(self, name: str, rows: Sequence[EpochMetrics]) -> None:
        """Epochs of a trial are done."""
        self.journal.epochs(name, [asdict(row) for row in rows])

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """A trial is done, has failed, is skipped, or was stopped early."""
        self.draw_queries(trial, outcome)
        self.journal.finish(encode(trial), asdict(outcome), trial_name(trial), cached=name in self.cached)
        self.add(name, trial, outcome)

    def close(self, status: Status, *, complete: bool, reason: str = "") -> int:
        """The driver ends; `reason` is why it does before its sweep. The number of writes that MLflow did not take."""
        self.journal.end(status, **({"reason": reason} if reason else {}))
        return self.conclude(status, complete=complete)

    def measures(self, victim: str) -> None:
        """All attacks on a victim have ended: tell what they left."""
        left = victim_measures(self._attacks.pop(victim, []))
        if left.metrics:
            trial, outcome = self.outcomes[victim]
            metrics = {"clean_acc": outcome.clean_acc or 0.0, **left.metrics}
            self.journal.measures(victim, metrics, left.tags, label=trial_name(trial))

    def totals(self, victims: int | None, attacks: int | None) -> None:
        """How many trials there will be."""
        self.journal.totals(victim=victims, attack=attacks)


def mlflow_options(sweep: Sweep, provenance: Mapping[str, str]) -> dict[str, Any]:
    """What MLflow is told of a sweep as a whole: `tags` of every run, `params` of its own."""
    tags = {**provenance, **source_tags(provenance), CONFIG: sweep.config_digest, **sweep.tags}
    return {"tags": tags, "params": flatten(encode(sweep.search), "search")}


def _kind(trial: Trial) -> str:
    return "victim" if trial.attack is None else "attack"
