"""The journal of a sweep: what happened in it, line by line, written by its driver alone and followed by all others."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Follow = Callable[[Mapping[str, Any]], object]
"""Takes in an event."""

JOURNAL, SWEEP_FILE = "journal.jsonl", "sweep.json"
"""What happened in a sweep, and the sweep itself."""


@dataclass
class TrialRecord:
    """What a journal says of one trial. `outcome` and, if it was asked for, `trial` are trees; None while under way.

    `measures` became known of it later. `whole`: all that the trial did stands there; journals of earlier releases told
    no epochs.
    """

    kind: str
    label: str
    session: int
    began: float | None
    outcome: dict[str, Any] | None = None
    trial: dict[str, Any] | None = None
    measures: dict[str, Any] | None = None
    whole: bool = False


@dataclass
class SweepHistory:
    """A journal, read: its trials by digest in the order of their last events, and its last session.

    `begin` and `end` are the events of that session; empty where there is none. `totals` is how many trials of each
    kind there are to be, by its latest word. `last` is the time of the last event.
    """

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    begin: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    totals: dict[str, int | None] = field(default_factory=dict)
    sessions: int = 0
    last: float = 0.0


def read_journal(folder: Path, *, trials: bool = False) -> SweepHistory:
    """Read the journal of a sweep, empty if there is none; with `trials` also what each trial is.

    Raises ValueError when it cannot be read. A line that was cut off is passed over.
    """
    history = SweepHistory()
    for event, _ in read_events(folder, torn=True):
        try:
            _apply_event(history, event, trials)
        except (KeyError, TypeError):
            continue
        history.last = event["at"]
    return history


def read_events(folder: Path, position: int = 0, *, torn: bool = False) -> Iterator[tuple[dict[str, Any], int]]:
    """The events of a journal from a position (bytes) on, each with the position after it.

    A last line without an end is still being written, and left for the next read, but for `torn`: then it is read as it
    is. Lines that are no events are passed over. Raises ValueError when the journal cannot be read; it may be missing.
    """
    path = folder / JOURNAL
    try:
        with path.open("rb") as lines:
            lines.seek(position)
            for line in lines:
                if not (torn or line.endswith(b"\n")):
                    return
                position += len(line)
                event = _parsed(line)
                if event is not None:
                    yield event, position
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    known = isinstance(event, dict) and isinstance(event.get("at"), int | float) and isinstance(event.get("event"), str)
    return event if known else None


def _apply_event(history: SweepHistory, event: dict[str, Any], trials: bool) -> None:
    match event["event"]:
        case "begin":
            _begin(history, event)
        case "totals":
            history.totals = {kind: event[kind] for kind in ("victim", "attack")}
        case "end":
            history.end = event
            history.totals = event.get("totals", history.totals)
        case "start":
            history.trials.pop(event["digest"], None)
            record = TrialRecord(event["kind"], event["label"], history.sessions, event["at"], whole="trial" in event)
            record.trial = event.get("trial") if trials else None
            history.trials[event["digest"]] = record
        case "measures":
            history.trials[event["digest"]].measures = event["metrics"] | event["tags"]
        case "cached":
            record = history.trials.pop(event["digest"])
            record.session = history.sessions
            history.trials[event["digest"]] = record
        case "finish":
            outcome = event["outcome"]
            name, trial = outcome["digest"], event["trial"]
            before = history.trials.pop(name, None)
            kind = "victim" if trial["attack"] is None else "attack"
            record = before or TrialRecord(kind, event.get("label", name), history.sessions, None)
            record.session, record.outcome = history.sessions, outcome
            record.trial = trial if trials else None
            history.trials[name] = record


def _begin(history: SweepHistory, event: dict[str, Any]) -> None:
    history.begin, history.end = event, {}
    history.totals = event.get("totals", {})
    history.sessions += 1
    for name in event.get("dropped", ()):  # they are none of the sweep any more
        history.trials.pop(name, None)


class Journal:
    """The driver's pen, and the one source of all that is told of a sweep: one line per event, written at once.

    Whoever is among `followers` is given each event when it is written. The times of events, `at`, are Unix seconds of
    the `clock`; none repeats, and each is later than all before it by a millisecond at least. A full disk is told once,
    through `warn`, and ends nothing: the lines wait for the next event. `earlier` holds the trees of the trials that
    ended in earlier sessions, and of their outcomes, but for the digests that are `dropped`.
    """

    def __init__(
        self,
        folder: Path,
        warn: Callable[[str], object],
        followers: Sequence[Follow] = (),
        *,
        dropped: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._warn, self._followers, self._clock = folder / JOURNAL, warn, followers, clock
        history = read_journal(folder, trials=True)
        for name in dropped:
            history.trials.pop(name, None)
        ended = [(one.trial, one.outcome, one.whole) for one in history.trials.values() if one.trial and one.outcome]
        self.earlier = [(trial, outcome) for trial, outcome, _ in ended]
        self._written = {outcome["digest"]: _fingerprint(outcome) for _, outcome, whole in ended if whole}
        self._begun = {name for name, one in history.trials.items() if one.whole and one.outcome is None}
        self._measured: dict[str, int] = {}
        self._totals: dict[str, int | None] = {}
        self._at = history.last
        self._waiting: deque[bytes] = deque()
        self._torn = not _ends_with_newline(self._path)
        self._warned = False

    def begin(self, **more: Any) -> None:
        """A driver takes up the sweep: `totals`, `slots` (trials at once), mean `epochs`, `dropped`, …."""
        self._totals = dict(more.get("totals", {}))
        self._write("begin", pid=os.getpid(), host=socket.gethostname(), **more)

    def start(self, digest: str, kind: str, label: str, **more: Any) -> None:
        """A trial has begun, or begins again: `epochs` to go, `trial` (tree), `victim_digest`, `data_digest`."""
        self._written.pop(digest, None)
        self._begun.add(digest)
        self._write("start", digest=digest, kind=kind, label=label, **more)

    def epochs(self, digest: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Epochs of a trial are done."""
        if rows:
            self._write("epochs", digest=digest, rows=rows)

    def finish(self, trial: Mapping[str, Any], outcome: Mapping[str, Any], label: str, *, cached: bool = False) -> None:
        """A trial has ended, one way or another; `cached`: it was not run by this command."""
        name = outcome["digest"]
        self._begun.discard(name)
        self._written[name] = _fingerprint(outcome)
        self._write("finish", label=label, outcome=outcome, trial=trial, cached=cached)

    def cached(self, digest: str, kind: str, status: str, **more: Any) -> None:
        """A trial was found finished whose events stand here already: the `seconds` it took, and if it is `marked`."""
        self._write("cached", digest=digest, kind=kind, status=status, **more)

    def holds(self, outcome: Mapping[str, Any]) -> bool:
        """Whether all that a trial did stands here, and ends in this very outcome."""
        return self._written.get(outcome["digest"]) == _fingerprint(outcome)

    def is_under_way(self, digest: str) -> bool:
        """Whether the last that stands here of a trial is not its end."""
        return digest in self._begun

    def measures(self, digest: str, metrics: Mapping[str, float], tags: Mapping[str, str] = {}, **more: Any) -> None:
        """Something became known of a trial, whose `label` is given, later; the same again is not written."""
        known = hash((tuple(sorted(metrics.items())), tuple(sorted(tags.items()))))
        if self._measured.get(digest) != known:
            self._measured[digest] = known
            self._write("measures", digest=digest, metrics=metrics, tags=tags, **more)

    def totals(self, *, victim: int | None, attack: int | None) -> None:
        """How many trials there are to be; the same again is not written."""
        totals = {"victim": victim, "attack": attack}
        if totals != self._totals:
            self._totals = totals
            self._write("totals", **totals)

    def end(self, status: str, **more: Any) -> None:
        """The driver ends: FINISHED, FAILED or KILLED; with the `reason` if it ends before its sweep."""
        self._write("end", status=status, **{"totals": self._totals, **more})

    def _write(self, name: str, **content: Any) -> None:
        self._at = max(round(self._clock(), 3), round(self._at + 0.001, 3))
        event = {"at": self._at, "event": name, **content}
        self._waiting.append(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        try:
            with self._path.open("ab", buffering=0) as file:
                while self._waiting:
                    self._append(file, self._waiting[0])
                    self._waiting.popleft()
        except OSError as error:
            if not self._warned:
                self._warn(f"warning: {self._path}: {error.strerror}; what happens is written down when that is over")
            self._warned = True
        for follow in self._followers:
            follow(event)

    def _append(self, file: Any, line: bytes) -> None:
        data = b"\n" + line if self._torn else line
        self._torn = True
        if file.write(data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False


def _fingerprint(outcome: Mapping[str, Any]) -> int:
    return hash(json.dumps(outcome, sort_keys=True))


def _ends_with_newline(path: Path) -> bool:
    """Whether a file is missing, empty or ends with a line."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except OSError:  # a file that is empty has no place before its end
        return True
