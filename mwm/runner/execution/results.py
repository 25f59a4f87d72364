"""The results of a sweep: the folder written from what its trials measured, and what MLflow is told in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path

from mwm.runner.execution.page import finish_page, late_measures
from mwm.runner.reporting import export
from mwm.runner.reporting.figures.queries import draw_query_grid
from mwm.runner.reporting.report.files import write_sweep_report
from mwm.runner.reporting.report.search_tables import read_search_results
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.sweeps.study import write_search
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.follower import Ending, MlflowFollower
from mwm.runner.tracking.position import FOLLOWED
from mwm.runner.tracking.runs import Status
from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.location import PICTURES
from mwm.storage.redaction import redacted_excerpt
from mwm.storage.store import Store
from mwm.trials.artifacts import class_names, perturbed_images, query_set
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial

SAVE_SECONDS = 5.0
"""The results folder is at most this old, or ten times the time that writing it takes."""

UPLOADED, FOLDERS = (".csv", ".json", ".png", ".html", ".yaml"), ("figures", "tables")
"""The files of the folder, and the folders in it, that hang at the sweep's run."""


@dataclass
class SweepResults:
    """The trials of a sweep that have ended, and the folder of its results.

    The folder is not written before `save_at` (monotonic seconds), but in the end; `copy` is told whenever it was.
    `began` is when the sweep did, `seconds` how long it took, once it has ended. `earlier` are trials of earlier
    sessions, of which this one has not told yet. `mlflow`, once it is there, gives the ids of runs.
    """

    sweep: Sweep
    folder: Path
    store: Store
    warn: Callable[[str], object]
    _: KW_ONLY
    mlflow: MlflowFollower | None = None
    copy: Callable[[Path], object] = Path.exists
    began: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    save_at: float = 0.0
    outcomes: dict[str, tuple[Trial, Outcome]] = field(default_factory=dict)
    earlier: dict[str, tuple[Trial, Outcome]] = field(default_factory=dict)

    def add(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""
        self.outcomes[outcome.digest] = (trial, outcome)
        if time.monotonic() >= self.save_at:
            self.save(complete=False)

    def draw_queries(self, trial: Trial, outcome: Outcome) -> None:
        """Draw the queries of a victim that is done, if that was not done before."""
        name = outcome.digest
        path = self.folder / PICTURES / f"{name}.png"
        if trial.attack is not None or outcome.status != "done" or path.exists():
            return
        with self.warn_on_error():
            path.parent.mkdir(parents=True, exist_ok=True)
            asked, moved = query_set(self.store, name), perturbed_images(self.store, name)
            draw_query_grid(asked, moved, path, class_names=class_names(self.store, name))

    def all(self) -> list[TrialResult]:
        """Every trial so far, those of earlier sessions among them."""
        run_id: Callable[[str], str] = self.mlflow.run_id if self.mlflow else lambda _: ""
        return [TrialResult(trial, outcome, run_id(name)) for name, (trial, outcome) in self._ended().items()]

    def _ended(self) -> dict[str, tuple[Trial, Outcome]]:
        return self.earlier | self.outcomes

    def count(self, status: str) -> int:
        """How many trials ended so."""
        return sum(outcome.status == status for _, outcome in self.outcomes.values())

    @property
    def unmarked(self) -> int:
        """How many victims carry no watermark."""
        return sum(outcome.marked is False for _, outcome in self.outcomes.values())

    @contextmanager
    def warn_on_error(self) -> Iterator[None]:
        """Whatever fails is told and ends no sweep: all that is written here can be written again from the store."""
        try:
            yield
        except Exception as error:
            kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
            self.warn(f"warning: {self.folder}: {kind}{redacted_excerpt(str(error))}")

    def save(self, *, complete: bool) -> None:
        """Write the results folder."""
        began = time.monotonic()
        with self.warn_on_error():
            seconds, rows = self._duration(), self.all()
            export.write_results(self.folder, self.sweep.name, rows, seconds=seconds, complete=complete)
            self.copy(self.folder)
        took = time.monotonic() - began
        self.save_at = time.monotonic() + max(SAVE_SECONDS, 10 * took)

    def _duration(self) -> float:
        return time.monotonic() - self.began if self.seconds is None else self.seconds

    def conclude(self, status: Status, *, complete: bool) -> int:
        """Write what only the whole sweep knows, here and to MLflow; the number of writes that MLflow did not take."""
        assert self.mlflow is not None, "there is nobody to tell"
        on_front: dict[str, float] = {}
        self.seconds = self._duration()
        try:
            self.save(complete=complete)
            if status != "KILLED":  # who is killed has not much time, and goes on later
                with self.warn_on_error():
                    victims = {name: trial.victim for name, (trial, _) in self._ended().items() if trial.attack is None}
                    on_front = write_search(self.folder, self.sweep, victims)
                with self.warn_on_error():
                    if self._ended():
                        write_sweep_report(self.folder)
        finally:
            left = self.mlflow.close(status, lambda: self._ending(on_front, complete=complete))
        with self.warn_on_error():
            self.copy(self.folder)
        return left

    def _ending(self, on_front: Mapping[str, float], *, complete: bool) -> Ending:
        """What MLflow is told in the end, when all runs have ids, which the results folder then has, too."""
        self.save(complete=complete)
        rows = result_rows(self.all())
        search = read_search_results(self.folder)
        last = partial(finish_page, sweep=self.sweep, rows=rows, search=search)
        own = (path for path in sorted(self.folder.glob("*.*")) if path.name not in (HEARTBEAT, FOLLOWED))
        files = [path for path in own if path.suffix in UPLOADED]
        folders = [path for name in FOLDERS if (path := self.folder / name).is_dir()]
        return Ending(late_measures(rows, on_front), files + folders, last)
