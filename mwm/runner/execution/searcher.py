"""Tune's view of a trial queue: what to run next, what came of it, and what is retried."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ray.tune.search import Searcher

from mwm.config.spec import encode
from mwm.storage.store import Store
from mwm.trials.names import trial_name
from mwm.trials.outcome import SKIPPED_UNMARKED, EpochMetrics, Outcome, TrialReport
from mwm.trials.trial import Trial, TrialInputs, data_key, victim_digest

MAX_RETRIES = 2
"""How often in a row a trial is retried that got no further than before: its process died, or it raised."""

MAX_TRANSIENT_RETRIES = 6
"""How often in a row where it is not to blame: a disk was full, or its process died before it began.

The pauses are 1, 2, 4, ... seconds."""

WAIT_SECONDS, MAX_WAIT_SECONDS = 5.0, 300.0
"""How long a store that does not answer is left alone: at first, and at most; twice as long each time."""


class Queue(Protocol):
    """Which trial is next, by its digest; how many there will be, and how many are `open`: given and not finished."""

    open: int
    victims: int
    attacks: int

    def next(self) -> tuple[str, Trial] | None:
        """The next trial; None when there is none, for now or, if nothing is `open`, for good."""

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> list[tuple[str, Trial]]:
        """Take in what came of a trial; the result are attacks that are not to be run."""

    def measures(self, victim: str) -> dict[str, float] | None:
        """What a victim and all its attacks showed; None as long as some are under way."""

    def worst_attack(self, victim: str) -> str:
        """The attack on a victim that left least of its watermark so far, in words."""


class Recorder(Protocol):
    """Where it is written down what a trial does."""

    def find_finished(self, name: str) -> Outcome | None:
        """What a trial measured that needs no run; OSError while the store is away."""

    def replay(self, name: str, trial: Trial, outcome: Outcome, *, cached: bool = False) -> None:
        """A trial had ended before; `cached`: before this command."""

    def start(self, name: str, trial: Trial) -> None:
        """A trial has begun, or is retried."""

    def rows(self, name: str, rows: Sequence[EpochMetrics]) -> None:
        """Epochs of a trial are done."""

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""

    def measures(self, victim: str, metrics: Mapping[str, float], worst_attack: str) -> None:
        """All attacks on a victim have ended: what it and they showed, and which attack left least."""

    def totals(self, victims: int | None, attacks: int | None) -> None:
        """How many trials there will be."""

    def warn(self, text: str, /) -> object:
        """One line of warning."""


@dataclass
class _Attempt:
    """One Tune trial: an attempt at a trial of the queue."""

    name: str
    trial: Trial
    began: bool = False
    outcome: Outcome | None = None
    error: str = ""
    transient: bool = False


class TrialSearcher(Searcher):
    """A queue as a Tune searcher. It owns the retries: Tune's own lose a trial whose process dies between two trials.

    Trials leave in `store` what they have made, and are made of `sets`.
    """

    def __init__(self, queue: Queue, recorder: Recorder, *, store: Store, sets: TrialInputs) -> None:
        super().__init__()
        self._queue, self._recorder, self._store, self._sets = queue, recorder, store, sets
        self.attempts: dict[str, _Attempt] = {}
        self.retries: list[tuple[float, str, Trial]] = []
        self.epochs: dict[str, int] = {}
        self.failures: dict[str, Counter[bool]] = {}
        self.wait_until, self.wait_seconds = 0.0, WAIT_SECONDS

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher; nothing of this one is ever read back."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial that has to be run; None for now, FINISHED for good."""
        if time.monotonic() < self.wait_until:
            return None
        while item := self._next():
            name, trial = item
            try:
                finished = self._recorder.find_finished(name)
            except OSError as error:  # the store is away, and may hold it
                self.retries.append((0.0, *item))
                self._back_off(error)
                return None
            self.wait_seconds = WAIT_SECONDS
            if finished is None:
                self.attempts[trial_id] = _Attempt(name, trial)
                return encode(trial)
            self._recorder.replay(name, trial, finished, cached=name not in self.failures)
            self._ended(name, trial, finished)
        return None if self._queue.open else str(Searcher.FINISHED)

    def _next(self) -> tuple[str, Trial] | None:
        """What is to be retried, as soon as its pause is over; else what the queue says."""
        now = time.monotonic()
        for item in self.retries:
            if item[0] <= now:
                self.retries.remove(item)
                return item[1:]
        return self._queue.next()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Rows have arrived, or the outcome, or word of an error."""
        attempt = self.attempts[trial_id]
        name, trial = attempt.name, attempt.trial
        if not attempt.began:
            attempt.began = True
            self._recorder.start(name, trial)
        report = TrialReport.unpack(result)
        self._recorder.rows(name, report.rows)
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
            with self._warn_on_error():
                self._store.discard(name)
            reason = f"ended early after epoch {self.epochs.get(name, 0)}: others were better"
            self._finish(name, trial, self._outcome_without_measures(name, trial, status="stopped", error=reason))
        elif (pause := self._pause(attempt)) is not None:
            self.retries.append((time.monotonic() + pause, name, trial))
        else:
            self._recorder.start(name, trial)
            reason = attempt.error or f"its process died {self.failures[name].total()} times"
            self._finish(name, trial, self._outcome_without_measures(name, trial, status="failed", error=reason))

    def _pause(self, attempt: _Attempt) -> float | None:
        """Seconds after which a trial that failed is retried; None if it is given up."""
        blameless = attempt.transient or not attempt.began
        failures = self.failures.setdefault(attempt.name, Counter())
        failures[blameless] += 1
        if not blameless:
            return 0.0 if failures[False] <= MAX_RETRIES else None
        if failures[True] > MAX_TRANSIENT_RETRIES:
            return None
        pause = 2.0 ** (failures[True] - 1)
        if attempt.error:
            self._recorder.warn(f"warning: {trial_name(attempt.trial)}: {attempt.error}; again in {pause:g} s")
        return pause

    def collect_finished(self) -> None:
        """After an early end: take in what was finished although nobody was listening any more."""
        for attempt in list(self.attempts.values()):
            with self._warn_on_error():
                outcome = self._recorder.find_finished(attempt.name)
                if outcome is not None:
                    self._recorder.replay(attempt.name, attempt.trial, outcome)

    def _back_off(self, error: OSError) -> None:
        self._recorder.warn(f"warning: the store does not answer, again in {self.wait_seconds:g} s: {error}")
        self.wait_until = time.monotonic() + self.wait_seconds
        self.wait_seconds = min(2 * self.wait_seconds, MAX_WAIT_SECONDS)

    @contextmanager
    def _warn_on_error(self) -> Iterator[None]:
        """A store that is away now can be tidied later."""
        try:
            yield
        except OSError as error:
            self._recorder.warn(f"warning: the store does not answer: {error}")

    def _finish(self, name: str, trial: Trial, outcome: Outcome) -> None:
        self._recorder.finish(name, trial, outcome)
        self._ended(name, trial, outcome)

    def _ended(self, name: str, trial: Trial, outcome: Outcome) -> None:
        """Tell the queue of an end; attacks on a victim that failed, or carries no watermark, are skipped."""
        self.epochs.pop(name, None)
        self.failures.pop(name, None)
        lost = self._queue.finish(name, trial, outcome)
        victim = outcome.victim_digest
        if measures := self._queue.measures(victim):
            self._recorder.measures(victim, measures, self._queue.worst_attack(victim))
        self._recorder.totals(self._queue.victims, self._queue.attacks)
        why = SKIPPED_UNMARKED if outcome.status == "done" else "its victim failed"
        for skipped, attack in lost:
            known = None
            with self._warn_on_error():
                known = self._recorder.find_finished(skipped)  # by a run that asked for attacks on such victims
            ended = known or self._outcome_without_measures(skipped, attack, status="skipped", error=why)
            self._recorder.replay(skipped, attack, ended, cached=known is not None)

    def _outcome_without_measures(
        self, name: str, trial: Trial, *, status: Literal["failed", "skipped", "stopped"], error: str
    ) -> Outcome:
        data = self._sets[data_key(trial.victim.data)].digest
        victim = victim_digest(trial.victim, self._sets)
        return Outcome(status=status, error=error, digest=name, victim_digest=victim, data_digest=data)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what is finished lies in the store, and the queue is made from it anew."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
