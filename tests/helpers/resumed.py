"""Sweeps that were run before, as their journals tell it, for tests of what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mwm.config.spec import encode
from mwm.runner.execution.continuation import Continuation
from mwm.runner.sweeps.search import victim_source
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.workspace.journal import SWEEP_FILE, Journal
from mwm.trials.names import trial_name
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial, TrialInputs, trial_digest, victim_digest

End = Callable[[Trial], str]
"""How a trial ends, or "" if nobody hears of its end."""


def done(trial: Trial) -> str:
    del trial
    return "done"


def begun(trial: Trial) -> str:
    del trial
    return ""


def ran(
    folder: Path, sweep: Sweep, sets: TrialInputs, *, ends: End = done, goes_on: Continuation | None = None
) -> None:
    """Leave a sweep as a driver does whose trials ended so."""
    (folder / SWEEP_FILE).write_text(json.dumps(encode(sweep)))
    told: dict[str, Any] = {} if goes_on is None else {"config_digests": goes_on.config_digests}
    told |= {"dropped": goes_on.dropped} if goes_on is not None and goes_on.dropped else {}
    journal = Journal(folder, print)
    journal.begin(**told)
    queue = TrialQueue(victim_source(sweep, folder), [attack for _, attack in sweep.attack_specs], sets)
    while (item := queue.next()) is not None:
        name, trial = item
        journal.start(name, "attack" if trial.attack else "victim", trial_name(trial), trial=encode(trial))
        if not (how := ends(trial)):
            continue
        ended = finished(trial, sets, how)
        journal.finish(encode(trial), asdict(ended), trial_name(trial))
        queue.finish(name, trial, ended)
    journal.end("FINISHED")


def finished(trial: Trial, sets: TrialInputs, status: str = "done") -> Outcome:
    """What a trial is said to have measured."""
    names = {"digest": trial_digest(trial, sets), "victim_digest": victim_digest(trial.victim, sets)}
    shares: dict[str, Any] = {"clean_acc": 0.9, "query_acc": 0.5, "log10_p": -4.0} if status == "done" else {}
    return replace(Outcome(status="done", **names, data_digest="d", **shares), status=status)  # type: ignore[arg-type]
