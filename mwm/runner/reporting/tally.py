"""How far a sweep is, by the events of its journal: its trials by status, the best victim, the time that is left."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from mwm.storage.redaction import one_line
from mwm.trials.names import best_line
from mwm.trials.outcome import STATUSES, TRIAL_KINDS, kept

Event = Mapping[str, Any]


@dataclass
class RunningTrial:
    """A trial under way: when it began (seconds of the clock), how far it is, and how long its last epoch took."""

    kind: str
    label: str
    began: float
    epochs: int = 0
    epoch: int = 0
    epoch_seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


class Tally:
    """What the events of a sweep come to. Totals are None while they are unknown; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self.totals: dict[str, int | None] = dict.fromkeys(TRIAL_KINDS)
        self.ended: Counter[tuple[str, str]] = Counter()
        self.running: dict[str, RunningTrial] = {}
        self.planned: Mapping[str, float] = {}
        self.slots = 0
        self.unmarked = 0
        self.best = ""
        self._best = (-math.inf, 0.0)
        self._walls: dict[str, list[float]] = {kind: [] for kind in TRIAL_KINDS}
        self._told: dict[str, list[float]] = {kind: [] for kind in TRIAL_KINDS}

    def follow(self, event: Event) -> None:
        """Take in an event of the journal."""
        match event["event"]:
            case "begin":
                self._began, self.totals = self._clock(), dict(event["totals"])
                self.slots, self.planned = event.get("slots", 0), event.get("epochs", {})
            case "totals":
                self.totals = {kind: event[kind] for kind in TRIAL_KINDS}
            case "start":
                trial = RunningTrial(event["kind"], one_line(event["label"]), self._clock(), event.get("epochs", 0))
                self.running[event["digest"]] = trial
                self.slots = max(self.slots, len(self.running))
            case "epochs" if event["digest"] in self.running:
                trial, row = self.running[event["digest"]], event["rows"][-1]
                trial.epoch, trial.epoch_seconds = row["epoch"], row["epoch_seconds"]
                trial.metrics = {"query": row["query_acc"], "clean": row["val_acc"]}
            case "finish":
                kind = "victim" if event["trial"]["attack"] is None else "attack"
                self._end(kind, event["outcome"], known=event.get("cached", False))
            case "cached":
                self._end(event["kind"], event, known=True)
            case "measures":
                self._weigh(event)

    def _end(self, kind: str, outcome: Event, *, known: bool) -> None:
        self.ended[kind, outcome["status"]] += 1
        self.unmarked += outcome.get("marked") is False
        trial = self.running.pop(outcome["digest"], None)
        if outcome["status"] != "done":
            return
        # What was known beforehand takes no time here: of it counts what it took when it was run.
        if trial is not None and trial.epoch and not known:
            self._walls[kind].append(self._clock() - trial.began)
        elif outcome.get("seconds") is not None:
            self._told[kind].append(outcome["seconds"])

    def _weigh(self, event: Event) -> None:
        """Whether this victim keeps more than the best so far after the worst of its attacks."""
        metrics = event["metrics"]
        if "worst_query_acc" not in metrics:
            return
        left = kept(metrics.get("worst_log10_p"), metrics["worst_query_acc"])
        if left > self._best:
            self._best = left
            self.best = one_line(best_line(event["label"], {**metrics, **event["tags"]}))

    @property
    def elapsed(self) -> float:
        """Seconds since the driver began."""
        return self._clock() - self._began

    def waiting(self, kind: str) -> int | None:
        """How many trials of a kind have not begun; None while that is unknown."""
        total = self.totals[kind]
        ended = sum(self.ended[kind, status] for status in STATUSES)
        return None if total is None else max(total - self.under_way(kind) - ended, 0)

    def under_way(self, kind: str) -> int:
        """How many trials of a kind are running."""
        return sum(trial.kind == kind for trial in list(self.running.values()))

    def left(self) -> float | None:
        """Seconds until everything is done if it goes on as it did so far; None while that cannot be told."""
        ages = [(trial.kind, self._clock() - trial.began) for trial in list(self.running.values())]
        waiting = {kind: self.waiting(kind) for kind in TRIAL_KINDS}
        return estimate_remaining(waiting, ages, seconds=self._seconds(), slots=self.slots)

    def _seconds(self) -> dict[str, float]:
        """How long a trial of each kind takes, as far as anything tells.

        By those that were run; else by what earlier ones say of themselves; else by the epochs that are done of
        those under way; else by the epochs of the other kind, of as many as are planned.
        """
        known = {kind: self._walls[kind] or self._told[kind] or rates for kind, rates in self._rates().items()}
        found = {kind: fmean(seconds) for kind, seconds in known.items() if seconds}
        for kind, other in (TRIAL_KINDS, TRIAL_KINDS[::-1]):
            if kind not in found and other in found and self.planned.get(kind) and self.planned.get(other):
                found[kind] = found[other] * self.planned[kind] / self.planned[other]
        return found

    def _rates(self) -> dict[str, list[float]]:
        """Seconds that trials under way take in all, if each epoch that is left is as long as their last one."""
        now = self._clock()
        begun = [trial for trial in list(self.running.values()) if trial.epoch]
        return {
            kind: [now - one.began + (one.epochs - one.epoch) * one.epoch_seconds for one in begun if one.kind == kind]
            for kind in TRIAL_KINDS
        }


def estimate_remaining(
    waiting: Mapping[str, int | None],
    running: Iterable[tuple[str, float]],
    *,
    seconds: Mapping[str, float],
    slots: int,
) -> float | None:
    """Seconds until everything is done if a trial of each kind takes `seconds`; None while that cannot be told.

    `running` holds the kind and the age (seconds) of each trial under way, `slots` is how many run at once.
    """
    under_way = list(running)
    todo = {kind for kind in TRIAL_KINDS if waiting[kind] != 0} | {kind for kind, _ in under_way}
    if not todo:
        return 0.0
    if not slots or None in waiting.values() or not todo <= seconds.keys():
        return None
    rest = [max(seconds[kind] - age, 0.0) for kind, age in under_way]
    queued = sum((waiting[kind] or 0) * seconds[kind] for kind in todo)
    return max([(sum(rest) + queued) / slots, *rest])
