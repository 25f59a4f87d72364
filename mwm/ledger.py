"""What a sweep has shown so far, told to MLflow, to the results folder and to whoever watches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mwm import report
from mwm.progress import Progress, label, line
from mwm.report import Result
from mwm.store import Store
from mwm.tracking import Status, Tracker
from mwm.trial import Outcome, Row, Sets, Trial, data_key, victim_digest

SAVE_SECONDS = 5.0
"""The results folder is at most this old, or ten times the time that writing it takes."""


@dataclass
class Ledger:
    """The one place in the driver where rows and outcomes arrive."""

    sweep: str
    folder: Path
    tracker: Tracker
    progress: Progress
    store: Store
    sets: Sets
    began: float = field(default_factory=time.monotonic)
    outcomes: dict[str, tuple[Trial, Outcome]] = field(default_factory=dict)
    _best: float = -1.0
    _save_at: float = 0.0

    def start(self, name: str, trial: Trial) -> None:
        """A trial has begun, or goes on."""
        self.tracker.start(
            trial,
            digest=name,
            victim_digest=victim_digest(trial.victim, self.sets),
            data_digest=self.sets[data_key(trial.victim.data)].digest,
        )
        self.progress.started(_kind(trial), name, label(trial))

    def rows(self, name: str, trial: Trial, rows: Sequence[Row]) -> None:
        """Epochs of a trial are done."""
        recipe = trial.victim.recipe if trial.attack is None else trial.attack.recipe
        assert recipe is not None, "an attack without a recipe has no epochs"
        for row in rows:
            self.tracker.log(name, row)
        if rows:
            self.progress.row(name, rows[-1].epoch, recipe.epochs, query=rows[-1].query_acc, clean=rows[-1].val_acc)

    def known(self, name: str) -> Outcome | None:
        """What a finished trial measured; None if it is not finished."""
        outcome = self.store.outcome(name)
        return None if outcome is None else Outcome(**outcome)

    def replay(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """Tell of a trial that was finished earlier."""
        self.start(name, trial)
        self.rows(name, trial, [Row(**row) for row in self.store.rows(name)])
        self.finish(name, trial, outcome)

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """A trial is done, has failed, or is skipped."""
        self.outcomes[name] = (trial, outcome)
        pictures: list[Path] = []
        with self._tolerant():
            pictures = self._picture(name, trial, outcome)
        self.tracker.finish(name, outcome, artifacts=pictures)
        self._praise(trial, outcome)
        self.progress.finished(_kind(trial), name, outcome.status, line(trial, outcome))
        if time.monotonic() >= self._save_at:
            with self._tolerant():
                self.save(complete=False)

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """A full disk or a damaged picture is told and ends no sweep: all can be written again from the store."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.progress.warn(f"warning: {self.folder}: {error}")

    def _praise(self, trial: Trial, outcome: Outcome) -> None:
        if trial.attack is not None and outcome.query_acc is not None and outcome.query_acc > self._best:
            self._best = outcome.query_acc
            self.progress.best(line(trial, outcome))

    def _picture(self, name: str, trial: Trial, outcome: Outcome) -> list[Path]:
        if trial.attack is not None or outcome.status != "done":
            return []
        path = self.folder / "queries" / f"{name}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            report.query_picture(self.store.queries(name), self.store.perturbed(name), path)
        return [path]

    def results(self) -> list[Result]:
        """Every trial so far."""
        return [Result(trial, outcome, self.tracker.run_id(name)) for name, (trial, outcome) in self.outcomes.items()]

    def save(self, *, complete: bool) -> None:
        """Write the results folder."""
        began = time.monotonic()
        report.write(self.folder, self.sweep, self.results(), seconds=began - self.began, complete=complete)
        took = time.monotonic() - began
        self._save_at = time.monotonic() + max(SAVE_SECONDS, 10 * took)

    def close(self, status: Status, *, complete: bool) -> None:
        """Write what only the whole sweep knows, and end every run."""
        try:
            with self._tolerant():
                self.save(complete=complete)
            for row in report.rows(self.sweep, self.results()):
                if row["clean_drop"] is not None:
                    self.tracker.measure(row["digest"], {"clean_drop": row["clean_drop"]})
            for path in sorted(self.folder.glob("*.*")):
                if path.suffix in (".csv", ".json"):
                    self.tracker.artifact(path)
        finally:
            self.tracker.close(status)
        with self._tolerant():
            self.save(complete=complete)  # once more: MLflow may have been away, and its run ids be new

    def count(self, status: str) -> int:
        """How many trials ended so."""
        return sum(outcome.status == status for _, outcome in self.outcomes.values())


def _kind(trial: Trial) -> str:
    return "victim" if trial.attack is None else "attack"
