"""What lies in a storage folder: sweeps, how they are getting on, and what of the store none of them needs."""

from __future__ import annotations

import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mwm.runner.workspace.heartbeat import read_heartbeat
from mwm.runner.workspace.journal import JOURNAL, SWEEP_FILE, SweepHistory, read_journal
from mwm.runner.workspace.lock import holder
from mwm.trials.outcome import STATUSES, TRIAL_KINDS

RESULTS, TABLE = "results", "results.csv"

STALE_SECONDS = 60.0
"""A driver on another machine that has been silent for this long is taken for dead; clocks may differ by less."""

State = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """How a sweep is getting on. Times are Unix seconds, durations seconds; None is unknown.

    `counts` holds, for victims and attacks, the number that are done, failed, skipped, stopped, running and waiting,
    and their total. What failed in an earlier session waits to be tried again. `pid` and `host` are the driver's.
    """

    name: str
    state: State
    pid: int | None
    host: str | None
    sessions: int
    began: float | None
    elapsed: float | None
    left: float | None
    written: float | None
    counts: dict[str, dict[str, int | None]]
    running: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    best: dict[str, Any] | None
    results: str


def list_sweeps(storage: Path) -> list[Path]:
    """The folders of all sweeps in results/, by name."""
    found = {path.parent for name in (SWEEP_FILE, JOURNAL) for path in (storage / RESULTS).glob(f"*/{name}")}
    return sorted(found)


def find_sweep(storage: Path, name: str) -> Path:
    """The folder of a sweep. Raises ValueError that lists those there are."""
    there = {path.name: path for path in list_sweeps(storage)}
    if name not in there:
        known = f"there are {', '.join(there)}" if there else "there are none"
        raise ValueError(f"NAME: there is no sweep {name!r} in {storage / RESULTS}; {known}")
    return there[name]


def sweep_status(folder: Path) -> SweepStatus:
    """How the sweep in results/NAME is getting on, from its lock, its journal and its driver's last word."""
    now, held, book, beat = time.time(), holder(folder), read_journal(folder), read_heartbeat(folder)
    here = held is not None and held.verb == "run"
    state = _state(book, beat, here=here, now=now)
    if book.begin and beat.get("at", 0.0) < book.begin["at"]:
        beat = {}
    began = book.begin.get("at")
    latest = max(book.last, beat.get("at", 0.0))
    until = now if state == "running" else book.end.get("at", latest)
    left = beat.get("left") if state == "running" else None
    ours = held if here and held is not None and held.pid else None
    return SweepStatus(
        name=folder.name,
        state=state,
        pid=ours.pid if ours else book.begin.get("pid"),
        host=ours.host if ours else book.begin.get("host"),
        sessions=book.sessions,
        began=began,
        elapsed=None if began is None else max(until - began, 0.0),
        left=None if left is None else max(left - (now - beat["at"]), 0.0),
        written=latest or None,
        counts=_counts(book, totals(book, beat), live=state == "running"),
        running=_running_trials(book, beat, now) if state == "running" else [],
        failures=_failures(book),
        best=_best(book),
        results=str(folder / TABLE),
    )


def _state(book: SweepHistory, beat: dict[str, Any], *, here: bool, now: float) -> State:
    if here:
        return "running"
    if book.end:
        ended: dict[str, State] = {"FINISHED": "finished", "FAILED": "failed"}
        return ended.get(book.end["status"], "interrupted")
    elsewhere = beat.get("host") != socket.gethostname()
    return "running" if elsewhere and abs(now - beat.get("at", 0.0)) < STALE_SECONDS else "interrupted"


def totals(book: SweepHistory, beat: dict[str, Any]) -> dict[str, int | None]:
    for said in (beat, book.end, book.begin):
        if "totals" in said:
            return dict(said["totals"])
    return dict.fromkeys(TRIAL_KINDS)


def _status(told: Any, sessions: int) -> str:
    """Where a trial stands; what did not end well in an earlier session is to be tried again."""
    if told.outcome is None:
        return "running" if told.session == sessions else "waiting"
    status: str = told.outcome["status"]
    return status if status in ("done", "stopped") or told.session == sessions else "waiting"


def _counts(book: SweepHistory, totals: dict[str, int | None], *, live: bool) -> dict[str, dict[str, int | None]]:
    counted = Counter((told.kind, _status(told, book.sessions)) for told in book.trials.values())
    found: dict[str, dict[str, int | None]] = {}
    for kind in TRIAL_KINDS:
        number = {status: counted[kind, status] for status in STATUSES}
        number["running"] = counted[kind, "running"] if live else 0
        total = totals.get(kind)
        rest = None if total is None else max(total - sum(number.values()), 0)
        found[f"{kind}s"] = {**number, "waiting": rest, "total": total}
    return found


def _running_trials(book: SweepHistory, beat: dict[str, Any], now: float) -> list[dict[str, Any]]:
    epochs = beat.get("running", {})
    return [
        {"digest": name, "kind": told.kind, "label": told.label, "epoch": 0, "epochs": 0}
        | epochs.get(name, {})
        | {"age": None if told.began is None else max(now - told.began, 0.0)}
        for name, told in book.trials.items()
        if _status(told, book.sessions) == "running"
    ]


def _failures(book: SweepHistory) -> list[dict[str, Any]]:
    return [
        {"digest": name, "kind": told.kind, "label": told.label, "error": told.outcome["error"]}
        for name, told in book.trials.items()
        if told.outcome is not None and _status(told, book.sessions) == "failed"
    ]


def _best(book: SweepHistory) -> dict[str, Any] | None:
    """The attack after which most of the watermark is left."""
    best: dict[str, Any] | None = None
    for name, told in book.trials.items():
        outcome = told.outcome or {}
        query = outcome.get("query_acc")
        if told.kind == "attack" and query is not None and (best is None or query > best["query_acc"]):
            measured = {key: outcome.get(key) for key in ("query_acc", "clean_acc", "log10_p")}
            best = {"digest": name, "label": told.label, **measured}
    return best
