"""list, status, sync and clean: which sweeps there are, how one is getting on, what the store can spare."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from json import dumps
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from mwm.runner.cli.options import NOWHERE_ELSE, Json, RecordingOptions, Storage, SweepName, make_console
from mwm.runner.workspace.location import RESULTS, StorageLocation
from mwm.runner.workspace.lock import cleanup_lock
from mwm.runner.workspace.status import SweepStatus, find_sweep, list_sweeps, sweep_status, sweeps_in
from mwm.runner.workspace.users import forget_users, other_users, recorded_since
from mwm.storage.redaction import one_line
from mwm.trials.names import duration
from mwm.trials.outcome import STATUSES, UNPROVEN

if TYPE_CHECKING:
    from mwm.runner.workspace.garbage import Garbage, Sparing

SHOWN = 20
"""Trials of a kind that are listed; all are in the JSON."""

HEADINGS = ("sweep", "state", "victims", "attacks", "failed", "skipped", "last written", "reason")


def list_(*, storage: Storage = ".") -> int:
    """Show all sweeps in results/, one line each.

    A line is the state of a sweep, its trials done of all, failed and skipped, when it was last written, and why its
    driver ended before the sweep did.
    """
    place = StorageLocation(storage)
    place.download()
    rows = [_row(sweep_status(folder)) for folder in list_sweeps(place.local_root)]
    closed = [path for path in place.results.glob("*") if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]
    _print(make_console(), _aligned([HEADINGS, *rows]) if rows else [f"no sweeps in {place.results}"] * (not closed))
    _print(make_console(), [f"{path}: cannot be read (Permission denied)" for path in closed])
    return 0


def _row(sweep: SweepStatus) -> tuple[str, ...]:
    both = list(sweep.counts.values())
    done = [f"{counts['done']}/{_count_or_unknown(counts['total'])}" for counts in both]
    bad = [str(sum(counts[status] or 0 for counts in both)) for status in ("failed", "skipped")]
    return (sweep.name, sweep.state, *done, *bad, _timestamp(sweep.written), one_line(sweep.reason))


def status(name: SweepName, /, *, json: Json = False, storage: Storage = ".") -> int:
    """Show how a sweep is getting on, while it runs and after."""
    place = StorageLocation(storage)
    place.download(name)
    sweep = sweep_status(find_sweep(place.local_root, name))
    if json:
        make_console().out(dumps(asdict(sweep), indent=1), highlight=False)
    else:
        _print(make_console(), _lines(sweep))
    return 0


def sync(name: SweepName, /, *, storage: Storage = ".", recording: RecordingOptions = NOWHERE_ELSE) -> int:
    """Bring to MLflow what it has missed of a sweep; may be repeated.

    What a run there lacks is asked of MLflow itself. Exit status: 0 if all is there, 3 if MLflow did not take
    something, 2 for a mistake.
    """
    place = StorageLocation(storage)
    place.download(name)
    from mwm.runner.execution.sync import sync_mlflow

    return sync_mlflow(make_console(), place, name=name, **asdict(recording))


def _lines(sweep: SweepStatus) -> Iterator[str]:
    where = f", process {sweep.pid} on {sweep.host}" if sweep.pid else ""
    yield f"{sweep.name}: {sweep.state}{where if sweep.state == 'running' else ''}"
    if sweep.reason:
        yield f"reason   {one_line(sweep.reason)}"
    if sweep.elapsed is not None:
        left = "" if sweep.left is None else f", about {duration(sweep.left)} left"
        session = f", session {sweep.sessions}" if sweep.sessions > 1 else ""
        yield f"elapsed  {duration(sweep.elapsed)}{left}; begun {_timestamp(sweep.began)}{session}"
    for kind, counts in sweep.counts.items():
        told = [f"{counts[status]} {status}" for status in STATUSES if counts[status] or status == "done"]
        told += [f"{counts['running']} running"] * bool(counts["running"])
        waiting, total = _count_or_unknown(counts["waiting"]), _count_or_unknown(counts["total"])
        yield f"{kind}  {', '.join(told)}, {waiting} waiting; {total} in all"
    if sweep.best is not None:
        from mwm.trials.names import best_line  # pydantic, which it needs, takes a third of the whole command

        yield f"best     {sweep.best['digest']} {one_line(best_line(sweep.best['label'], sweep.best))}"
    for title, lines in _lists(sweep).items():
        if lines:
            yield title
            yield from _some(lines)
    yield f"results  {sweep.results}"


def _lists(sweep: SweepStatus) -> dict[str, list[str]]:
    """What is told in a line each, under its title."""
    return {
        "networks": [one_line(f"{one['digest']} {one['label']}") for one in sweep.victims],
        "running": _aligned([_age(trial) for trial in sweep.running]),
        UNPROVEN: [one_line(f"{one['label']}: log10 p {one['log10_p'] + 0.0:.1f}") for one in sweep.unmarked],
        "failed": [one_line(f"{trial['label']}: {trial['error']}") for trial in sweep.failures],
    }


def _age(trial: dict[str, Any]) -> tuple[str, ...]:
    epoch = f"epoch {trial['epoch']}/{trial['epochs']}" if trial["epoch"] else "begun"
    return one_line(trial["label"]), epoch, "" if trial["age"] is None else duration(trial["age"])


def _some(lines: list[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"  and {len(lines) - SHOWN} more"


def clean(
    *,
    delete: Annotated[bool, Parameter(help="Remove it, too.")] = False,
    older_than: Annotated[float, Parameter(help="Spare what was written to in the last so many hours.")] = 24.0,
    keys: Annotated[bool, Parameter(help="Do not spare keys that were made from a secret of your own.")] = False,
    sole_user: Annotated[
        bool, Parameter(help="No other folder uses the store: do not spare what it held before it listed its users.")
    ] = False,
    forget: Annotated[
        list[str] | None, Parameter(help="A results folder that uses the store and is gone for good; repeatable.")
    ] = None,
    storage: Storage = ".",
) -> int:
    """List what no sweep needs, or remove it.

    What is kept: every trial that the journal or the table of a sweep in results/ names, finished or not, and the
    victims of its attacks, also of sweeps in other folders that use the store. To let go of a sweep, remove its folder
    (rm -r results/NAME): its trials, unless another sweep shares them, are then no longer needed, and `clean` lists
    them. Nothing is done while a sweep is running.
    """
    from mwm.runner.workspace.garbage import Sparing

    if not older_than >= 0:
        raise ValueError(f"--older-than: {older_than:g} is not allowed: must be 0 hours or more")
    place = StorageLocation(storage)
    results, store = _cleanable(place)
    places = [results, *([store] if store.is_dir() else [])]
    with cleanup_lock(*places) if delete else nullcontext(True) as alone, _as_one_line():
        others = other_users(results, store, forget or ())
        _require_rest(place.local_root, [results, *others], alone=alone)
        since = -inf if sole_user else recorded_since(store)
        _clean(place, Sparing(hours=older_than, secret_keys=not keys, others=others, since=since), delete=delete)
        if delete:
            forget_users(store, forget or ())
    return 0


def _clean(place: StorageLocation, sparing: Sparing, *, delete: bool) -> None:
    """List what can go, and what is spared in a line for each reason; or remove it, too."""
    from mwm.runner.workspace.garbage import garbage
    from mwm.storage.store import Store

    console, spared, going = make_console(), defaultdict[str, list["Garbage"]](list), list["Garbage"]()
    for item in garbage(place.local_root, Store(place.store), sparing):
        (spared[item.spared] if item.spared else going).append(item)
    for item in going:
        console.out(f"{item.place}: {_human_bytes(item.size)}, {item.reason}", highlight=False)
        if delete:
            item.remove()
    _print_total(console, going, delete=delete)
    for reason, items in sorted(spared.items()):
        console.out(f"spared {_amount(items)}, {reason}", highlight=False)


@contextmanager
def _as_one_line() -> Iterator[None]:
    """Tell of what cannot be read or removed in one line."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"--storage: {error.filename}: {error.strerror}; what was named before is done") from None


def _cleanable(place: StorageLocation) -> tuple[Path, Path]:
    """The folders of results and of the store; ValueError where nothing tells what is needed."""
    if place.remote or place.local_store is None:
        raise ValueError(f"--storage: {place.display_name} cannot be cleaned: sweeps elsewhere may be using it")
    place.download()
    if not place.results.is_dir():
        raise ValueError(
            f"--storage: {place.local_root} has no {RESULTS}/: nothing there tells what is needed of its store"
        )
    return place.results, place.local_store


def _require_rest(root: Path, users: Sequence[Path], *, alone: bool) -> None:
    """Refuse to clean a store while a sweep that uses it is running."""
    sweeps = [folder for results in users for folder in sweeps_in(results)]
    at_work = [folder.name for folder in sweeps if sweep_status(folder).state == "running"]
    if at_work or not alone:
        which = ", ".join(at_work) or "a sweep"
        raise ValueError(f"--storage: {root}: {which} is running; clean when it has ended")


def _print_total(console: Console, found: Sequence[Garbage], *, delete: bool) -> None:
    if not found:
        console.out("nothing to remove", highlight=False)
        return
    things = _amount(found)
    console.out(f"removed {things}" if delete else f"{things}; remove with --delete", highlight=False)


def _amount(found: Sequence[Garbage]) -> str:
    return f"{len(found)} thing{'s' * (len(found) > 1)}, {_human_bytes(sum(item.size for item in found))}"


def _human_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _count_or_unknown(number: int | None) -> str:
    return "?" if number is None else str(number)


def _timestamp(at: float | None) -> str:
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _print(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.out(line, highlight=False)
