"""Trials in words: their names, and the one line about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mwm.trials.outcome import Outcome
    from mwm.trials.trial import Trial


NAMING = ("num_queries", "step_size", "labels")

INHERITED = "as victim"

SHORT = {"num_queries": "n", "step_size": "step size", "queries_per_step": "per step"}

FORMS = {
    "num_queries": "n={}",
    "step_size": "{}",
    "queries_per_step": "{} per step",
    "temperature": "T={}",
    "budget": "{} calls",
    "repeats": "repeats {}",
}

UNSAID = ("same", INHERITED)


def trial_name(trial: Trial, *, victim: bool = True) -> str:
    """A short name of a trial for people: "extraction soft seed 0 on margin n=20 10/255 seed 0".

    Besides the fields that always name a scheme or an attack, only what differs from its default is said. Without
    `victim`, the name of an attack leaves out what it is on.
    """
    target, attack = trial.victim, trial.attack
    name = f"{_words(target.scheme)} seed {target.seed}"
    if attack is None:
        return name
    student = "" if attack.student is None or attack.student == target.model else f" {attack.student.kind}"
    thief = f"{_words(attack)}{student} seed {attack.seed}"
    return f"{thief} on {name}" if victim else thief


def outcome_line(trial: Trial, outcome: Outcome) -> str:
    """What became of a trial, in one line: its label, then accuracies, the decimal logarithm of p, seconds, memory."""
    if outcome.status != "done":
        return f"{trial_name(trial)}: {outcome.status}: {outcome.error}"
    said = []
    if outcome.query_acc is not None:
        said.append(f"query {format_fraction(outcome.query_acc, 2)}")
    if outcome.clean_acc is not None:
        said.append(f"clean {format_fraction(outcome.clean_acc)}")
    if outcome.log10_p is not None:
        said.append(f"log10 p {round(outcome.log10_p, 1) + 0.0:.1f}")
    if outcome.seconds is not None:
        said.append(f"{outcome.seconds:.1f} s")
    if outcome.peak_mib is not None:
        said.append(f"{outcome.peak_mib:.0f} MiB")
    return f"{trial_name(trial)}: {', '.join(said)}"


def describe(kind: str, leaves: Iterable[tuple[str, Any]]) -> str:
    """A setting in words: its kind, then each field as "n=20", "10/255" or "soft", unless that goes without saying."""
    words = [kind]
    for path, value in leaves:
        if value is None or value is False or value in UNSAID:
            continue
        name = path.rpartition(".")[2]
        form = FORMS.get(name, "{}" if isinstance(value, str) else f"{name}={{}}")
        words.append(name if value is True else form.format(format_value(path, value)))
    return " ".join(words)


def column_heading(path: str) -> str:
    """The heading of a field's column: "scheme.num_queries" is headed "n", "victim.model.kind" is headed "model"."""
    parent, _, name = path.rpartition(".")
    return parent.rpartition(".")[2] if name == "kind" else SHORT.get(name, name)


def format_value(path: str, value: Any) -> str:
    """The value of a field as people write it; step sizes as k/255 where k is whole."""
    if path.endswith("step_size") and abs(value * 255 - round(value * 255)) < 1e-9:
        return f"{round(value * 255)}/255"
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_fraction(value: float, digits: int = 3) -> str:
    """A share without the zero in front of its point: ".953"."""
    text = f"{round(value, digits) + 0.0:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _words(record: Any) -> str:
    """The kind of a scheme or an attack, then the fields that name it, then those that are not at their default."""
    said = []
    for item in sorted(fields(record), key=lambda item: item.name not in NAMING):
        value = getattr(record, item.name)
        told = item.name in NAMING or value != item.default
        if told and item.name not in ("kind", "seed", "student", "recipe"):
            said.append((item.name, getattr(value, "kind", value)))
    return describe(record.kind, said)
