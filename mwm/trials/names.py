"""Trials in words: their names, and the one line about each. Records are imported late: `list` needs none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from mwm.config.written import number_text

if TYPE_CHECKING:
    from mwm.config.spec import Shown
    from mwm.trials.trial import Trial

INHERITED = "as victim"
UNSAID = ("victim_data", INHERITED)
"""Values that go without saying."""

TOLD_BY = {"combined": ("combined", "margin")}
"""The kinds that say how fields are told, of a kind whose parts have fields of their own."""


def trial_name(trial: Trial) -> str:
    """A short name of a trial for people: "extraction soft seed 0 on margin n=20 10/255 seed 0".

    Besides the fields that always name a scheme or an attack, only what differs from its default is said.
    """
    target, attack = trial.victim, trial.attack
    name = f"{_words(target.scheme)} seed {target.seed}"
    return name if attack is None else f"{attack_name(trial)} on {name}"


def attack_name(trial: Trial) -> str:
    """The name of an attack without that of its victim: "extraction soft resnet20 seed 0"."""
    target, attack = trial.victim, trial.attack
    assert attack is not None, "a victim's trial has no attack"
    network = attack.architecture(target)
    return f"{_words(attack)}{'' if network == target.model else f' {network.label}'} seed {attack.seed}"


def outcome_line(label: str, outcome: Mapping[str, Any]) -> str:
    """What became of a trial, by the fields of its outcome, in one line: accuracies, log10 p, seconds, memory.

    Of a victim without a watermark it begins with that.
    """
    if outcome["status"] != "done":
        return f"{label}: {outcome['status']}: {outcome['error']}"
    forms: dict[str, Callable[[float], str]] = {
        "query_acc": lambda share: f"query {format_fraction(share, 2)}",
        "start_acc": lambda share: f"start {format_fraction(share)}",
        "clean_acc": lambda share: f"clean {format_fraction(share)}",
        "log10_p": lambda log: f"log10 p {round(log, 1) + 0.0:.1f}",
        "seconds": lambda seconds: f"{seconds:.1f} s",
        "peak_mib": lambda peak: f"{peak:.0f} MiB",
    }
    known = {name: outcome.get(name) for name in forms}  # those of an older release have no start_acc
    told = [forms[name](value) for name, value in known.items() if value is not None]
    return f"{label}: {', '.join(['unmarked'] * (outcome.get('marked') is False) + told)}"


def best_line(label: str, left: Mapping[str, Any]) -> str:
    """A victim, and what the worst of its attacks leaves: "margin n=20 seed 0, clean .953; hard leaves query .05"."""
    proof, clean = left.get("worst_log10_p"), left.get("clean_acc")
    kept = [] if proof is None else [f"-log10 p {round(0.0 - proof, 1) + 0.0:.1f}"]
    kept.append(f"query {format_fraction(left['worst_query_acc'], 2)}")
    good = "" if clean is None else f", clean {format_fraction(clean)}"
    return f"{label}{good}; {left.get('worst_attack') or 'the worst attack'} leaves {', '.join(kept)}"


def describe(kind: str, leaves: Iterable[tuple[str, Any]]) -> str:
    """A configuration in words: its kind, then each field as "n=20", "10/255" or "soft", unless it goes unsaid."""
    words = [kind]
    for path, value in leaves:
        part, name = _part(path), path.rpartition(".")[2]
        shown = _shown(name, value, part or kind)
        form = shown.off if value is False else shown.form
        if value is None or value in UNSAID or not form:
            continue
        words.append(_joined(part, name if value is True else form.format(format_value(path, value))))
    return " ".join(words)


def column_heading(path: str) -> str:
    """The heading of a field's column: "scheme.num_queries" is headed "n", "victim.model.kind" is headed "model"."""
    parent, _, name = path.rpartition(".")
    if name == "kind":
        return parent.rpartition(".")[2]
    return _joined(_part(path), _shown(name, "").heading or name)


def _part(path: str) -> str:
    """The part of a scheme whose field stands at a path, where it is told apart: "scheme.confusion.mass"."""
    parent = path.rpartition(".")[0].rpartition(".")[2]
    return parent if parent in _catalogue() else ""


def _joined(*words: str) -> str:
    return " ".join(filter(None, words))


def format_value(path: str, value: Any) -> str:
    """The value of a field as people write it: a step size as k/255 where k is whole, a flag as yes or no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    whole = _shown(path.rpartition(".")[2], value).fraction
    if whole and abs(value * whole - round(value * whole)) < 1e-9:
        return f"{round(value * whole)}/{whole}"
    if not isinstance(value, float):
        return str(value)
    exact = number_text(value)
    return exact if "/" in exact else f"{value:g}"


def format_fraction(value: float, digits: int = 3) -> str:
    """A share without the zero in front of its point: ".953"."""
    text = f"{round(value, digits) + 0.0:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def counted(number: float, noun: str) -> str:
    """A number of things: "1 victim", "2 victims"."""
    return f"{number:.12g} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as people read them: "4:05" or "1:04:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _words(record: Any) -> str:
    """The kind of a scheme or an attack, then the fields that name it, then those that are not at their default."""
    from mwm.config.spec import shown_fields

    told = shown_fields(type(record))
    always = [field for field in fields(record) if field.name in told and told[field.name].always]
    others = [field for field in fields(record) if field not in always and field.name not in ("kind", "seed")]
    said = always + [field for field in others if getattr(record, field.name) != field.default]
    values = [(field.name, getattr(record, field.name)) for field in said]
    return describe(record.kind, [(name, _word(value)) for name, value in values])


def _word(value: Any) -> Any:
    """A value as it is said: a record by its kind; a scheme, attack or form, or several of them, with what names it."""
    if isinstance(value, tuple) and all(hasattr(item, "kind") for item in value):
        return " + ".join(map(_words, value))
    kind = getattr(value, "kind", value)
    return _words(value) if kind is not value and kind in _catalogue() else kind


def _shown(name: str, value: Any, kind: str = "") -> Shown:
    """How a field is told, of a scheme or attack of a kind, or of any: a control has keys, and no field for them."""
    from mwm.config.spec import Shown

    catalogue = _catalogue()
    kinds = TOLD_BY.get(kind, (kind,) if kind in catalogue and kind != "none" else catalogue)
    found = [catalogue[one] for one in kinds]
    usual = Shown("{}" if isinstance(value, str) else f"{name}={{}}")
    return next((told[name] for told in found if name in told), usual)


@cache
def _catalogue() -> dict[str, dict[str, Shown]]:
    """How the fields of schemes, attacks and forms of answers are told, by their kinds and names."""
    from mwm.attacks import Attack
    from mwm.config.spec import shown_fields
    from mwm.models.answers import AnswerForm
    from mwm.watermarks.schemes import Scheme

    kinds = [kind for union in (Scheme, Attack, AnswerForm) for kind in get_args(get_args(union)[0])]
    return {kind.kind: shown_fields(kind) for kind in kinds}
