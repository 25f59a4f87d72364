"""Tune's view of a plan: what to run next, what came of it, and what is begun again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from ray.tune.search import Searcher

from mwm.config.spec import encode
from mwm.runner.execution.recorder import SweepRecorder
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.trials.names import trial_name
from mwm.trials.outcome import Outcome, TrialReport
from mwm.trials.trial import Trial, data_key, victim_digest

MAX_RETRIES = 2
"""How often in a row a trial is begun again that got no further than before: its process died, or it raised."""

MAX_TRANSIENT_RETRIES = 6
"""How often in a row where it is not to blame: a disk was full, or its process died before it began.

The pauses are 1, 2, 4, ... seconds."""

WAIT_SECONDS = 5.0
"""How long a store that does not answer is left alone at first; twice as long each time, five minutes at most."""


@dataclass
class _Attempt:
    """One Tune trial: an attempt at a trial of the plan."""

    name: str
    trial: Trial
    began: bool = False
    outcome: Outcome | None = None
    error: str = ""
    transient: bool = False


class TrialSearcher(Searcher):
    """A plan as a Tune searcher. It owns the retries: Tune's own lose a trial whose process dies between two trials."""

    def __init__(self, plan: TrialQueue, ledger: SweepRecorder) -> None:
        super().__init__()
        self.plan, self.ledger = plan, ledger
        self.attempts: dict[str, _Attempt] = {}
        self.retries: list[tuple[float, str, Trial]] = []
        self.epochs: dict[str, int] = {}
        self.failures: dict[str, Counter[bool]] = {}
        self.wait_until, self.wait_seconds = 0.0, WAIT_SECONDS

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher; nothing of this one is ever read back."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial that is not known already; None for now, FINISHED for good."""
        if time.monotonic() < self.wait_until:
            return None
        while item := self._next():
            name, trial = item
            try:
                known = self.ledger.find_finished(name)
            except OSError as error:  # the store is away, and may hold it
                self.retries.append((0.0, *item))
                self._back_off(error)
                return None
            self.wait_seconds = WAIT_SECONDS
            if known is None:
                self.attempts[trial_id] = _Attempt(name, trial)
                return encode(trial)
            self.ledger.replay(name, trial, known, known=name not in self.failures)
            self._ended(name, trial, known)
        return None if self.plan.open else str(Searcher.FINISHED)

    def _next(self) -> tuple[str, Trial] | None:
        """What is to be begun again, as soon as its pause is over; else what the plan says."""
        now = time.monotonic()
        for item in self.retries:
            if item[0] <= now:
                self.retries.remove(item)
                return item[1:]
        return self.plan.next()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Rows have arrived, or the outcome, or word of an error."""
        attempt = self.attempts[trial_id]
        name, trial = attempt.name, attempt.trial
        if not attempt.began:
            attempt.began = True
            self.ledger.start(name, trial)
        report = TrialReport.unpack(result)
        self.ledger.rows(name, trial, report.rows)
        if report.rows and report.rows[-1].epoch > self.epochs.get(name, 0):
            self.epochs[name] = report.rows[-1].epoch
            self.failures.pop(name, None)
        attempt.error, attempt.transient, attempt.outcome = report.error, report.transient, report.outcome

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """An attempt is over; without an outcome it was stopped early, or it failed."""
        del result
        attempt = self.attempts.pop(trial_id)
        name, trial = attempt.name, attempt.trial
        if attempt.outcome is not None:
            self._finish(name, trial, attempt.outcome)
        elif not error:
            with self._warned():
                self.ledger.store.discard(name)
            reason = f"ended early after epoch {self.epochs.get(name, 0)}: others were better"
            self._finish(name, trial, self._outcome_without_measures(name, trial, status="stopped", error=reason))
        elif (pause := self._pause(attempt)) is not None:
            self.retries.append((time.monotonic() + pause, name, trial))
        else:
            self.ledger.start(name, trial)
            reason = attempt.error or f"its process died {self.failures[name].total()} times"
            self._finish(name, trial, self._outcome_without_measures(name, trial, status="failed", error=reason))

    def _pause(self, attempt: _Attempt) -> float | None:
        """Seconds after which a trial that failed is begun again; None if it is given up."""
        blameless = attempt.transient or not attempt.began
        failures = self.failures.setdefault(attempt.name, Counter())
        failures[blameless] += 1
        if not blameless:
            return 0.0 if failures[False] <= MAX_RETRIES else None
        if failures[True] > MAX_TRANSIENT_RETRIES:
            return None
        pause = 2.0 ** (failures[True] - 1)
        if attempt.error:
            self.ledger.progress.warn(f"warning: {trial_name(attempt.trial)}: {attempt.error}; again in {pause:g} s")
        return pause

    def collect_finished(self) -> None:
        """After an early end: take in what was finished although nobody was listening any more."""
        for attempt in list(self.attempts.values()):
            with self._warned():
                outcome = self.ledger.find_finished(attempt.name)
                if outcome is not None:
                    self.ledger.replay(attempt.name, attempt.trial, outcome)

    def _back_off(self, error: OSError) -> None:
        self.ledger.progress.warn(f"warning: the store does not answer, again in {self.wait_seconds:g} s: {error}")
        self.wait_until = time.monotonic() + self.wait_seconds
        self.wait_seconds = min(2 * self.wait_seconds, 300.0)

    @contextmanager
    def _warned(self) -> Iterator[None]:
        """A store that is away now can be tidied later."""
        try:
            yield
        except OSError as error:
            self.ledger.progress.warn(f"warning: the store does not answer: {error}")

    def _finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        self.ledger.finish(name, trial, outcome)
        self._ended(name, trial, outcome)

    def _ended(self, name: str, trial: Trial, outcome: Outcome) -> None:
        self.epochs.pop(name, None)
        self.failures.pop(name, None)
        lost = self.plan.finish(name, trial, outcome)
        if measures := self.plan.measures(outcome.victim_digest):
            self.ledger.tracker.log_late_metrics(outcome.victim_digest, measures)
        self.ledger.progress.total(victims=self.plan.victims, attacks=self.plan.attacks)
        for skipped, theft in lost:
            self.ledger.start(skipped, theft)
            outcome = self._outcome_without_measures(skipped, theft, status="skipped", error="its victim failed")
            self.ledger.finish(skipped, theft, outcome)

    def _outcome_without_measures(
        self, name: str, trial: Trial, *, status: Literal["failed", "skipped", "stopped"], error: str
    ) -> Outcome:
        sets = self.ledger.sets
        data = sets[data_key(trial.victim.data)].digest
        victim = victim_digest(trial.victim, sets)
        return Outcome(status=status, error=error, digest=name, victim_digest=victim, data_digest=data)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what is finished lies in the store, and the plan is made from it anew."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
