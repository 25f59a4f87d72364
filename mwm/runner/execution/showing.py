"""What a person sees of a sweep while it runs: the events of its journal, shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mwm.config.spec import decode
from mwm.runner.reporting.progress import Progress
from mwm.trials.names import outcome_line
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial


class Shown:
    """A follower of a journal that shows its events."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._epochs, self._best = progress, dict[str, int](), -1.0

    def follow(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        progress = self._progress
        match event["event"]:
            case "start":
                self._epochs[event["digest"]] = event.get("epochs", 0)
                progress.started(event["kind"], event["digest"], event["label"])
            case "epochs":
                row, epochs = event["rows"][-1], self._epochs.get(event["digest"], 0)
                progress.row(event["digest"], row["epoch"], epochs, query=row["query_acc"], clean=row["val_acc"])
            case "cached":
                progress.known(event["kind"], event["status"])
            case "totals":
                progress.total(victims=event["victim"], attacks=event["attack"])
            case "finish":
                self._finish(event)

    def _finish(self, event: Mapping[str, Any]) -> None:
        outcome, trial = Outcome(**event["outcome"]), decode(Trial, event["trial"])
        kind, line = "victim" if trial.attack is None else "attack", outcome_line(trial, outcome)
        self._epochs.pop(outcome.digest, None)
        if trial.attack is not None and outcome.query_acc is not None and outcome.query_acc > self._best:
            self._best = outcome.query_acc
            self._progress.best(line)
        if event.get("cached"):
            self._progress.known(kind, outcome.status)
        else:
            self._progress.finished(kind, outcome.digest, status=outcome.status, line=line)
