"""What a sweep has shown so far: to its journal, to MLflow, to the results folder and to whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path

from mwm.config.spec import decode, encode
from mwm.runner.reporting import export
from mwm.runner.reporting.figures.catalogue import draw_pictures
from mwm.runner.reporting.figures.queries import draw_query_grid
from mwm.runner.reporting.progress import Progress
from mwm.runner.reporting.report.files import write_report
from mwm.runner.reporting.results import TrialResult, late_metrics, result_rows
from mwm.runner.tracking.runs import Status
from mwm.runner.tracking.tracker import Tracker
from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import Journal
from mwm.runner.workspace.location import PICTURES
from mwm.storage.store import Store
from mwm.trials.artifacts import class_names, perturbed_images, query_set
from mwm.trials.names import outcome_line, trial_name
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial, TrialInputs, data_key, victim_digest

SAVE_SECONDS = 5.0
"""The results folder is at most this old, or ten times the time that writing it takes."""


@dataclass
class SweepRecorder:
    """The one place where rows and outcomes arrive.

    `journal` is written to, if there is one, and tells what ended in earlier sessions. The results folder is not
    written before `save_at` (monotonic seconds), but in the end; `copy` is told whenever it was. `search` writes what a
    search has found, and gives 1 by digest for each victim on its front, 0 for every other. `began` is when the sweep
    did; `cached` are the trials that were not run by this command.
    """

    sweep: str
    folder: Path
    tracker: Tracker
    _: KW_ONLY
    progress: Progress
    store: Store
    sets: TrialInputs
    journal: Journal | None = None
    copy: Callable[[Path], object] = Path.exists
    search: Callable[..., Mapping[str, float]] | None = None
    began: float = field(default_factory=time.monotonic)
    save_at: float = 0.0
    outcomes: dict[str, tuple[Trial, Outcome]] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    _earlier: dict[str, tuple[Trial, Outcome]] = field(default_factory=dict)
    _best: float = -1.0

    def __post_init__(self) -> None:
        for trial, outcome in self.journal.earlier if self.journal else ():
            self._earlier[outcome["digest"]] = decode(Trial, trial), Outcome(**outcome)

    def start(self, name: str, trial: Trial) -> None:
        """A trial has begun, or is retried."""
        if self.journal is not None:
            self.journal.start(name, _kind(trial), trial_name(trial))
        victim, data = victim_digest(trial.victim, self.sets), self.sets[data_key(trial.victim.data)].digest
        self.tracker.start(trial, digest=name, victim_digest=victim, data_digest=data)
        self.progress.started(_kind(trial), name, trial_name(trial))

    def find_finished(self, name: str) -> Outcome | None:
        """What a finished trial measured, or that this sweep ended it early; None if it is to be run."""
        outcome = self.store.outcome(name)
        if outcome is not None:
            return Outcome(**outcome)
        _, earlier = self._earlier.get(name, (None, None))
        return earlier if earlier is not None and earlier.status == "stopped" else None

    def replay(self, name: str, trial: Trial, outcome: Outcome, *, cached: bool = False) -> None:
        """Tell of a trial that ended earlier; needs no data sets, but a victim before its attacks.

        `cached`: it was not run by this command.
        """
        if cached:
            self.cached.add(name)
        victim, data = outcome.victim_digest, outcome.data_digest
        self.tracker.start(trial, digest=name, victim_digest=victim, data_digest=data, outcome=outcome)
        if outcome.status == "done":
            with self._warn_on_error():
                for row in self.store.rows(name):
                    self.tracker.log(name, EpochMetrics(**row))
        self.finish(name, trial, outcome)

    def rows(self, name: str, trial: Trial, rows: Sequence[EpochMetrics]) -> None:
        """Epochs of a trial are done."""
        epochs = trial.victim.recipe.epochs if trial.attack is None else trial.attack.epochs()
        for row in rows:
            self.tracker.log(name, row)
        if rows:
            self.progress.row(name, rows[-1].epoch, epochs, query=rows[-1].query_acc, clean=rows[-1].val_acc)

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """A trial is done, has failed, is skipped, or was stopped early."""
        self.outcomes[name] = (trial, outcome)
        if self.journal is not None:
            self.journal.finish(encode(trial), asdict(outcome), trial_name(trial))
        pictures: list[Path] = []
        with self._warn_on_error():
            pictures = self._draw_queries(name, trial, outcome)
        self.tracker.finish(name, outcome, artifacts=pictures)
        self._update_best(trial, outcome)
        if name in self.cached:
            self.progress.known(_kind(trial), outcome.status)
        else:
            self.progress.finished(_kind(trial), name, status=outcome.status, line=outcome_line(trial, outcome))
        if time.monotonic() >= self.save_at:
            with self._warn_on_error():
                self.save(complete=False)

    def log_late_metrics(self, name: str, metrics: Mapping[str, float]) -> None:
        """Something became known of a trial later, such as a victim's robustness."""
        self.tracker.log_late_metrics(name, metrics)

    @contextmanager
    def _warn_on_error(self) -> Iterator[None]:
        """A full disk or a damaged picture is told and ends no sweep: all can be written again from the store."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.progress.warn(f"warning: {self.folder}: {error}")

    def _update_best(self, trial: Trial, outcome: Outcome) -> None:
        if trial.attack is not None and outcome.query_acc is not None and outcome.query_acc > self._best:
            self._best = outcome.query_acc
            self.progress.best(outcome_line(trial, outcome))

    def _draw_queries(self, name: str, trial: Trial, outcome: Outcome) -> list[Path]:
        if trial.attack is not None or outcome.status != "done":
            return []
        path = self.folder / PICTURES / f"{name}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            asked, moved = query_set(self.store, name), perturbed_images(self.store, name)
            draw_query_grid(asked, moved, path, class_names=class_names(self.store, name))
        return [path]

    def results(self) -> list[TrialResult]:
        """Every trial so far, those of earlier sessions among them."""
        ended = self._earlier | self.outcomes
        return [TrialResult(trial, outcome, self.tracker.run_id(name)) for name, (trial, outcome) in ended.items()]

    def save(self, *, complete: bool) -> None:
        """Write the results folder."""
        began = time.monotonic()
        try:
            export.write_results(self.folder, self.sweep, self.results(), seconds=began - self.began, complete=complete)
            self.copy(self.folder)
        finally:
            took = time.monotonic() - began
            self.save_at = time.monotonic() + max(SAVE_SECONDS, 10 * took)

    def _write_search(self) -> Mapping[str, float]:
        """Write what the search has found: 1 by digest for each victim on its front, and 0 for every other."""
        ended = [(result.outcome.digest, result.trial) for result in self.results()]
        victims = {name: trial.victim for name, trial in ended if trial.attack is None}
        return self.search(self.folder, victims=victims) if self.search else {}

    def close(self, status: Status, *, complete: bool, reason: str = "") -> int:
        """Write what only the whole sweep knows, and end every run; the number of writes that MLflow did not take.

        `reason` is why the driver ends before its sweep does.
        """
        try:
            if self.journal is not None:
                self.journal.end(status, totals=self.progress.totals, **({"reason": reason} if reason else {}))
            with self._warn_on_error():
                draw_pictures(self.folder, self.results())
            on_front: Mapping[str, float] = {}
            with self._warn_on_error():
                on_front = self._write_search()
            with self._warn_on_error():
                self.save(complete=complete)
                if self.results():
                    write_report(self.folder)
            for row in result_rows(self.results()):
                name, late = row["digest"], late_metrics(row)
                late |= {"on_front": on_front[name]} if name in on_front else {}
                if name in self.outcomes and late:
                    self.log_late_metrics(name, late)
            for path in sorted(self.folder.glob("*.*")):
                if path.suffix in (".csv", ".json", ".png", ".html", ".yaml") and path.name != HEARTBEAT:
                    self.tracker.artifact(path)
        finally:
            left = self.tracker.close(status)
        with self._warn_on_error():
            self.save(complete=complete)  # once more: MLflow may have been away, and its run ids be new
        return left

    def count(self, status: str) -> int:
        """How many trials ended so."""
        return sum(outcome.status == status for _, outcome in self.outcomes.values())


def _kind(trial: Trial) -> str:
    return "victim" if trial.attack is None else "attack"
