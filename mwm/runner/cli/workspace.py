"""What a user can ask from any shell: which sweeps there are, how one is getting on, what the store can spare."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mwm.runner.reporting.progress import duration
from mwm.runner.workspace.garbage import Garbage, garbage
from mwm.runner.workspace.lock import cleanup_lock
from mwm.runner.workspace.status import RESULTS, SweepStatus, find_sweep, list_sweeps, sweep_status
from mwm.storage.redaction import one_line
from mwm.trials.names import format_fraction
from mwm.trials.outcome import STATUSES

if TYPE_CHECKING:
    from mwm.storage.store import Store

SHOWN = 20
"""Trials of a kind that are listed; all are in the JSON."""

HEADINGS = ("sweep", "state", "victims", "attacks", "failed", "skipped", "last written")


def show_list(console: Console, storage: Path) -> int:
    """Show one line for each sweep: its state, done of total, failed, skipped, when something was last written."""
    rows = [_row(sweep_status(folder)) for folder in list_sweeps(storage)]
    if not rows:
        console.out(f"no sweeps in {storage / RESULTS}", highlight=False)
        return 0
    _print(console, _aligned([HEADINGS, *rows]))
    return 0


def _row(sweep: SweepStatus) -> tuple[str, ...]:
    both = list(sweep.counts.values())
    done = [f"{counts['done']}/{_count_or_unknown(counts['total'])}" for counts in both]
    bad = [str(sum(counts[status] or 0 for counts in both)) for status in ("failed", "skipped")]
    return (sweep.name, sweep.state, *done, *bad, _timestamp(sweep.written))


def show_status(console: Console, storage: Path, name: str, *, as_json: bool) -> int:
    """Show how one sweep is getting on, for people or as JSON. Raises ValueError for a name that there is not."""
    sweep = sweep_status(find_sweep(storage, name))
    if as_json:
        console.out(json.dumps(asdict(sweep), indent=1), highlight=False)
    else:
        _print(console, _lines(sweep))
    return 0


def _lines(sweep: SweepStatus) -> Iterator[str]:
    where = f", process {sweep.pid} on {sweep.host}" if sweep.pid else ""
    yield f"{sweep.name}: {sweep.state}{where if sweep.state == 'running' else ''}"
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
        yield f"best     {one_line(sweep.best['label'])}: query {format_fraction(sweep.best['query_acc'], 2)}"
    if sweep.running:
        yield "running"
        yield from _some(_aligned([_age(trial) for trial in sweep.running]))
    if sweep.failures:
        yield "failed"
        yield from _some(one_line(f"{trial['label']}: {trial['error']}") for trial in sweep.failures)
    yield f"results  {sweep.results}"


def _age(trial: dict[str, Any]) -> tuple[str, ...]:
    epoch = f"epoch {trial['epoch']}/{trial['epochs']}" if trial["epoch"] else "begun"
    return one_line(trial["label"]), epoch, "" if trial["age"] is None else duration(trial["age"])


def _some(lines: Iterable[str]) -> Iterator[str]:
    every = list(lines)
    yield from (f"  {line}" for line in every[:SHOWN])
    if len(every) > SHOWN:
        yield f"  and {len(every) - SHOWN} more"


def show_garbage(console: Console, storage: Path, store: Store, *, hours: float, delete: bool) -> int:
    """List what no sweep needs, with its bytes, and with `delete` remove it.

    Raises ValueError, and removes nothing, while a sweep is running, or when a journal cannot be read.
    """
    if not hours >= 0:
        raise ValueError(f"--older-than: {hours:g} is not allowed: must be 0 hours or more")
    if not (storage / RESULTS).is_dir():
        raise ValueError(f"--storage: {storage} has no {RESULTS}/: nothing there tells what is needed of its store")
    with cleanup_lock(storage / RESULTS) as alone:
        at_work = [folder.name for folder in list_sweeps(storage) if sweep_status(folder).state == "running"]
        if at_work or not alone:
            raise ValueError(
                f"--storage: {storage}: {', '.join(at_work) or 'a sweep'} is running; clean when it has ended"
            )
        found = list(garbage(storage, store, hours))
        for item in found:
            console.out(f"{item.place}: {_human_bytes(item.size)}, {item.reason}", highlight=False)
            if delete:
                item.remove()
    _print_total(console, found, delete=delete)
    return 0


def _print_total(console: Console, found: Sequence[Garbage], *, delete: bool) -> None:
    if not found:
        console.out("nothing to remove", highlight=False)
        return
    things = f"{len(found)} thing{'s' * (len(found) > 1)}, {_human_bytes(sum(item.size for item in found))}"
    console.out(f"removed {things}" if delete else f"{things}; remove with --delete", highlight=False)


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
