"""What lies in results/: sweeps, and how each is getting on."""

from __future__ import annotations

import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mwm.runner.workspace.heartbeat import BEAT_SECONDS, read_heartbeat
from mwm.runner.workspace.journal import JOURNAL, SWEEP_FILE, SweepHistory, TrialRecord, read_journal
from mwm.runner.workspace.location import RESULTS
from mwm.runner.workspace.lock import holder
from mwm.trials.outcome import STATUSES, TRIAL_KINDS, kept

TABLE = "results.csv"

STALE_SECONDS = 60.0
"""A driver on another machine that has been silent for this long is taken for dead; clocks may differ by less."""

INCOMPLETE = 3
"""Exit status where not every trial is done, or MLflow lacks something; 1 is what Python itself ends with."""

State = Literal["running", "finished", "failed", "interrupted"]

NO_END = "its driver ended without a word: it was killed, or its machine stopped"


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """How a sweep is getting on. Times are Unix seconds, durations seconds; None is unknown.

    `counts` holds, for victims and attacks, the number that are done, failed, skipped, stopped, running and waiting,
    and their total. What failed in an earlier session waits to be tried again. `victims` are those that are
    done, with the digests that name their networks; `unmarked` are those of them that carry no watermark. `pid` and
    `host` are the driver's, `reason` is why it ended before the sweep did.
    """

    name: str
    state: State
    reason: str
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
    victims: list[dict[str, Any]]
    unmarked: list[dict[str, Any]]
    best: dict[str, Any] | None
    results: str


def list_sweeps(storage: Path) -> list[Path]:
    """The folders of all sweeps in results/, by name."""
    return sweeps_in(storage / RESULTS)


def sweeps_in(results: Path) -> list[Path]:
    """The folders of all sweeps in a folder of results, by name."""
    return sorted({path.parent for name in (SWEEP_FILE, JOURNAL) for path in results.glob(f"*/{name}")})


def find_sweep(storage: Path, name: str) -> Path:
    """The folder of a sweep. Raises ValueError that lists those there are."""
    there = {path.name: path for path in list_sweeps(storage)}
    if name not in there:
        known = f"there are {', '.join(there)}" if there else "there are none"
        raise ValueError(f"NAME: there is no sweep {name!r} in {storage / RESULTS}; {known}")
    return there[name]


def sweep_status(folder: Path) -> SweepStatus:
    """How the sweep in results/NAME is getting on, from its lock, its journal and its driver's heartbeat."""
    now, held = time.time(), holder(folder)
    history, heartbeat = read_journal(folder), read_heartbeat(folder)
    here = held is not None and held.verb == "run"
    state = _state(history, heartbeat, here=here, now=now)
    if history.begin and heartbeat.get("at", 0.0) < history.begin["at"] - BEAT_SECONDS:  # an earlier session's
        heartbeat = {}
    began = history.begin.get("at")
    latest = max(history.last, heartbeat.get("at", 0.0))
    until = now if state == "running" else history.end.get("at", latest)
    left = heartbeat.get("left") if state == "running" else None
    ours = held if here and held is not None and held.pid else None
    return SweepStatus(
        name=folder.name,
        state=state,
        reason=_reason(history, state),
        pid=ours.pid if ours else history.begin.get("pid"),
        host=ours.host if ours else history.begin.get("host"),
        sessions=history.sessions,
        began=began,
        elapsed=None if began is None else max(until - began, 0.0),
        left=None if left is None else max(left - (now - heartbeat["at"]), 0.0),
        written=latest or None,
        counts=_counts(history, totals(history, heartbeat), live=state == "running"),
        running=_running_trials(history, heartbeat, now) if state == "running" else [],
        failures=_failures(history),
        victims=_finished_victims(history),
        unmarked=_unmarked(history),
        best=_best(history),
        results=str(folder / TABLE),
    )


def _state(history: SweepHistory, heartbeat: dict[str, Any], *, here: bool, now: float) -> State:
    if here:
        return "running"
    if history.end:
        ended: dict[str, State] = {"FINISHED": "finished", "FAILED": "failed"}
        return ended.get(history.end["status"], "interrupted")
    elsewhere = heartbeat.get("host") != socket.gethostname()
    return "running" if elsewhere and abs(now - heartbeat.get("at", 0.0)) < STALE_SECONDS else "interrupted"


def _reason(history: SweepHistory, state: State) -> str:
    """Why a driver ended before its sweep did; empty while it works, and if its trials alone are to be told."""
    if state in ("running", "finished") or not history.begin:
        return ""
    return str(history.end.get("reason", "")) if history.end else NO_END


def totals(history: SweepHistory, heartbeat: dict[str, Any]) -> dict[str, int | None]:
    """How many trials of each kind there are to be, by the latest word; None while that is unknown."""
    return dict(heartbeat.get("totals") or history.totals or dict.fromkeys(TRIAL_KINDS))


def _status(record: TrialRecord, sessions: int) -> str:
    """Where a trial stands; what did not end well in an earlier session is to be tried again."""
    if record.outcome is None:
        return "running" if record.session == sessions else "waiting"
    status: str = record.outcome["status"]
    return status if status in ("done", "stopped") or record.session == sessions else "waiting"


def _counts(history: SweepHistory, totals: dict[str, int | None], *, live: bool) -> dict[str, dict[str, int | None]]:
    counted = Counter((record.kind, _status(record, history.sessions)) for record in history.trials.values())
    found: dict[str, dict[str, int | None]] = {}
    for kind in TRIAL_KINDS:
        number = {status: counted[kind, status] for status in STATUSES}
        number["running"] = counted[kind, "running"] if live else 0
        total = totals.get(kind)
        rest = None if total is None else max(total - sum(number.values()), 0)
        found[f"{kind}s"] = {**number, "waiting": rest, "total": total}
    return found


def _running_trials(history: SweepHistory, heartbeat: dict[str, Any], now: float) -> list[dict[str, Any]]:
    epochs = heartbeat.get("running", {})
    return [
        {"digest": name, "kind": record.kind, "label": record.label, "epoch": 0, "epochs": 0}
        | epochs.get(name, {})
        | {"age": None if record.began is None else max(now - record.began, 0.0)}
        for name, record in history.trials.items()
        if _status(record, history.sessions) == "running"
    ]


def _failures(history: SweepHistory) -> list[dict[str, Any]]:
    return [
        {"digest": name, "kind": record.kind, "label": record.label, "error": record.outcome["error"]}
        for name, record in history.trials.items()
        if record.outcome is not None and _status(record, history.sessions) == "failed"
    ]


def _finished_victims(history: SweepHistory) -> list[dict[str, Any]]:
    return [
        {"digest": name, "label": record.label, "clean_acc": record.outcome.get("clean_acc")}
        for name, record in history.trials.items()
        if record.kind == "victim" and record.outcome is not None and record.outcome["status"] == "done"
    ]


def _unmarked(history: SweepHistory) -> list[dict[str, Any]]:
    """The victims that carry no watermark, each with the log10 p of its own key on it."""
    return [
        {"digest": name, "label": record.label, "log10_p": record.outcome["log10_p"]}
        for name, record in history.trials.items()
        if record.outcome is not None and record.outcome.get("marked") is False
    ]


def _best(history: SweepHistory) -> dict[str, Any] | None:
    """The victim that keeps most after the worst of its attacks: by -log10 p, and where no test is exact by answers."""
    found = list[dict[str, Any]]()
    for name, record in history.trials.items():
        left, clean = record.measures or {}, (record.outcome or {}).get("clean_acc")
        if record.kind == "victim" and "worst_query_acc" in left:
            told = {key: left.get(key) for key in ("worst_attack", "worst_log10_p", "worst_query_acc")}
            found.append({"digest": name, "label": record.label, "clean_acc": clean, **told})
    return max(found, key=lambda one: kept(one["worst_log10_p"], one["worst_query_acc"]), default=None)
