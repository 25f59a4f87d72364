"""How a sweep goes on under a name that was used before: grown, unchanged, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.runner.sweeps.growth import (
    Changes,
    asked_victims,
    changes,
    foreign_trials,
    in_words,
    refuse_other_search,
    same_search,
)
from mwm.runner.sweeps.search import STUDY
from mwm.runner.sweeps.sweep import OptunaSearch, Sweep
from mwm.runner.workspace.journal import SWEEP_FILE, SweepHistory, TrialRecord, read_journal
from mwm.storage.store import Store
from mwm.trials.names import counted
from mwm.trials.trial import Trial, TrialInputs, Victim

MOST_SHOWN, MOST_TOLD = 20, 3
"""So many lines of a difference are shown in a refusal, and told of a sweep that goes on."""

MEASURED = ("done", "stopped")
"""The ends of a trial that mean something: its row stays. What failed or was skipped is tried again anyway."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """How a sweep goes on.

    `config_digests` are those of all that it asked so far, the last one of what it asks now; a search of another kind
    begins them anew. `dropped` are trials that measured nothing and are none of it any more. `told` is one line for
    people; empty if nothing has changed.
    """

    config_digests: Sequence[str]
    dropped: Sequence[str] = ()
    told: str = ""


def continuation(sweep: Sweep, folder: Path, *, sets: TrialInputs, store: Store) -> Continuation:
    """How a sweep goes on whose results lie in `folder`; to be asked while nobody else works on it.

    It may ask more or less than before, as long as every trial that was measured is still one of it, by its digest.
    Raises ValueError otherwise: a line that says why, and below it what the two files say otherwise.
    """
    history, before = read_journal(folder, trials=True), _sweep_before(sweep, folder)
    found = changes(before, sweep) if before is not None else ()
    known = {name: record for name, record in history.trials.items() if record.trial is not None}
    try:
        if before is not None:
            _refuse_other_rules(before, sweep, known.values(), study=(folder / STUDY).exists())
        foreign = foreign_trials(sweep, _victims(before, sweep, known), known, sets=sets)
        gone = {name: known[name] for name in foreign if _is_measured(name, known[name], store)}
        if gone:
            raise ValueError(_why_gone(gone, _measured(known.values()), changed=bool(found)))
    except ValueError as error:
        reason = f"name: {sweep.name!r} is another sweep in {folder}: {error}; choose a new one by --name"
        reason += "; there (-) and here (+):" if found else ""
        raise ValueError("\n".join([reason, *_shown(found)])) from None
    return Continuation(
        config_digests=_config_digests(history, before, sweep),
        dropped=tuple(sorted(foreign)),
        told=_told(found, kept=_measured(known.values()), dropped=len(foreign)) if known else "",
    )


def foreseen(sweep: Sweep, folder: Path, *, sets: TrialInputs, store: Store) -> str:
    """What a run would say of a sweep whose results lie in `folder`, or why it would refuse; empty if nothing."""
    try:
        return continuation(sweep, folder, sets=sets, store=store).told
    except ValueError as error:
        return f"warning: run would refuse this: {error}"


def _sweep_before(sweep: Sweep, folder: Path) -> Sweep | None:
    """The sweep as it was run before; None if it never was. ValueError for one that cannot be read any more."""
    path = folder / SWEEP_FILE
    if not path.exists():
        return None
    try:
        before: Sweep = decode(Sweep, load_yaml(path))
        _ = before.attack_specs
    except ValueError:
        here = f"name: {sweep.name!r} is another sweep in {folder}"
        raise ValueError(f"{here}: {path.name} is of another release, or damaged; choose a new one by --name") from None
    return before


def _refuse_other_rules(before: Sweep, now: Sweep, known: Iterable[TrialRecord], *, study: bool) -> None:
    """Refuse what gives trials another meaning although they stay what they are: a search's, and early ends."""
    known = list(known)
    if study or _measured(known):
        attacked = any(one.kind == "attack" and one.outcome is not None for one in known)
        refuse_other_search(before, now, attacked=attacked)
    stopped = sum(one.outcome is not None and one.outcome["status"] == "stopped" for one in known)
    if stopped and before.early_stopping != now.early_stopping:
        raise ValueError(f"early_stopping: is not allowed to change: {counted(stopped, 'victim')} ended early by it")


def _victims(before: Sweep | None, now: Sweep, known: Mapping[str, TrialRecord]) -> Iterable[Victim]:
    """The victims that known trials may be of: of a search by Optuna, whose space is as it was, its own."""
    if isinstance(now.search, OptunaSearch):
        if before is not None and not same_search(before, now):
            return ()
        return (decode(Trial, one.trial).victim for one in known.values() if one.kind == "victim")
    return asked_victims(before, now)


def _is_measured(name: str, record: TrialRecord, store: Store) -> bool:
    """Whether a trial has measured something, as the journal says, or the store of what nobody heard of any more."""
    try:
        return record.outcome["status"] in MEASURED if record.outcome else store.outcome(name) is not None
    except OSError as error:
        raise ValueError(f"whether {record.label} ({name}) was finished cannot be read ({error})") from None


def _measured(known: Iterable[TrialRecord]) -> int:
    return sum(one.outcome is not None and one.outcome["status"] in MEASURED for one in known)


def _why_gone(gone: Mapping[str, TrialRecord], measured: int, *, changed: bool) -> str:
    victims = [name for name, record in gone.items() if record.kind == "victim"]
    name = next(iter(victims or gone))
    such = f"{'such as ' * (len(gone) > 1)}{gone[name].label} ({name})"
    count = counted(max(measured, len(gone)), "finished trial")
    text = f"{len(gone)} of its {count} would not be part of it any more, {such}"
    named = "the data, the code, the weights or the secret that it names, or the method"
    return text if changed else f"{text}: the file is the same, but something else has changed: {named}"


def _shown(found: Changes) -> Iterator[str]:
    yield from (f"{sign} {line}" for sign, line in found[:MOST_SHOWN])
    if len(found) > MOST_SHOWN:
        yield f"and {len(found) - MOST_SHOWN} more lines"


def _told(found: Changes, *, kept: int, dropped: int) -> str:
    """One line of what has changed, and what of the trials before goes on."""
    if not found and not dropped:
        return ""
    said = list(in_words(found))
    more = [f"{len(said) - MOST_TOLD} more"] if len(said) > MOST_TOLD else []
    what = f"the sweep has changed ({'; '.join(said[:MOST_TOLD] + more)})" if said else "the sweep goes on"
    parts = [f"{counted(kept, 'finished trial')} {'is' if kept == 1 else 'are'} reused"] if kept else []
    parts += [f"{dropped} that measured nothing {'is' if dropped == 1 else 'are'} left out"] if dropped else []
    return f"{what}: {', '.join(parts) or 'nothing was finished before'}"


def _config_digests(history: SweepHistory, before: Sweep | None, now: Sweep) -> list[str]:
    own = now.config_digest
    if before is None or before.question["search"] != now.question["search"]:
        return [own]
    earlier = history.begin.get("config_digests") or [before.config_digest]
    return [*(one for one in earlier if one != own), own]
