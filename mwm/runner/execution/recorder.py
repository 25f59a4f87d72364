"""The driver's record of a sweep: its journal, and the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mwm.config.spec import decode, encode
from mwm.runner.execution.results import SweepResults
from mwm.runner.tracking.runs import Status
from mwm.runner.workspace.journal import Journal
from mwm.trials.names import trial_name
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.trial import Trial, TrialInputs, data_key, victim_digest


@dataclass
class SweepRecorder:
    """The driver's record of a sweep: everything that happens goes to its `journal`, and every end to its `results`.

    `cached` are the trials that were not run by this command.
    """

    results: SweepResults
    journal: Journal
    sets: TrialInputs
    cached: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for trial, outcome in self.journal.earlier:
            self.results.earlier[outcome["digest"]] = decode(Trial, trial), Outcome(**outcome)

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
        outcome = self.results.store.outcome(name)
        if outcome is not None:
            return Outcome(**outcome)
        _, earlier = self.results.earlier.get(name, (None, None))
        return earlier if earlier is not None and earlier.status == "stopped" else None

    def replay(self, name: str, trial: Trial, outcome: Outcome, *, cached: bool = False) -> None:
        """Tell of a trial that ended earlier; needs no data sets. `cached`: it was not run by this command."""
        if cached:
            self.cached.add(name)
        if self.journal.holds(asdict(outcome)):
            self.results.draw_queries(trial, outcome)
            told: dict[str, Any] = {"seconds": outcome.seconds, "marked": outcome.marked}
            self.journal.cached(name, _kind(trial), outcome.status, **told)
            self.results.add(trial, outcome)
            return
        if not self.journal.is_under_way(name):
            self._start(name, trial, victim=outcome.victim_digest, data=outcome.data_digest)
        if outcome.status == "done":
            with self.results.warn_on_error():
                self.journal.epochs(name, self.results.store.rows(name))
        self.finish(name, trial, outcome)

    def rows(self, name: str, rows: Sequence[EpochMetrics]) -> None:
        """Epochs of a trial are done."""
        self.journal.epochs(name, [asdict(row) for row in rows])

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """A trial is done, has failed, is skipped, or was stopped early."""
        self.results.draw_queries(trial, outcome)
        self.journal.finish(encode(trial), asdict(outcome), trial_name(trial), cached=name in self.cached)
        self.results.add(trial, outcome)

    def close(self, status: Status, *, complete: bool, reason: str = "") -> int:
        """The driver ends; `reason` is why it does before its sweep. The number of writes that MLflow did not take."""
        self.journal.end(status, **({"reason": reason} if reason else {}))
        return self.results.conclude(status, complete=complete)

    def measures(self, victim: str, metrics: Mapping[str, float], worst_attack: str) -> None:
        """All attacks on a victim have ended: what it measured, what they left, and which left least, in words."""
        tags = {"worst_attack": worst_attack} if "worst_query_acc" in metrics else {}
        self.journal.measures(victim, metrics, tags, label=trial_name(self.results.outcomes[victim][0]))

    def totals(self, victims: int | None, attacks: int | None) -> None:
        """How many trials there will be."""
        self.journal.totals(victim=victims, attack=attacks)

    def warn(self, text: str) -> None:
        """One line of warning."""
        self.results.warn(text)


def _kind(trial: Trial) -> str:
    return "victim" if trial.attack is None else "attack"
