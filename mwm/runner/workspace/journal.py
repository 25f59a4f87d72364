"""The journal of a sweep: what happened in it, line by line, written by its driver and read from any shell."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JOURNAL, SWEEP_FILE = "journal.jsonl", "sweep.json"
"""What happened in a sweep, and the sweep itself."""


@dataclass
class TrialRecord:
    """What a journal says of one trial. `outcome` and, if it was asked for, `trial` are trees; None while under way."""

    kind: str
    label: str
    session: int
    began: float | None
    outcome: dict[str, Any] | None = None
    trial: dict[str, Any] | None = None


@dataclass
class SweepHistory:
    """A journal, read: its trials by digest in the order of their last events, and its last session.

    `begin` and `end` are the events of that session; empty where there is none. `last` is the time of the last event.
    """

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    begin: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    sessions: int = 0
    last: float = 0.0


def read_journal(folder: Path, *, trials: bool = False) -> SweepHistory:
    """Read the journal of a sweep, empty if there is none; with `trials` also what each finished trial is.

    Raises ValueError when it cannot be read. A line that was cut off is passed over.
    """
    history = SweepHistory()
    for event in _events(folder / JOURNAL):
        try:
            _apply_event(history, event, trials)
        except (KeyError, TypeError):
            continue
        history.last = event["at"]
    return history


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict) and isinstance(event.get("at"), int | float):
                    yield event
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def _apply_event(history: SweepHistory, event: dict[str, Any], trials: bool) -> None:
    match event["event"]:
        case "begin":
            history.begin, history.end = event, {}
            history.sessions += 1
        case "end":
            history.end = event
        case "start":
            history.trials.pop(event["digest"], None)
            history.trials[event["digest"]] = TrialRecord(event["kind"], event["label"], history.sessions, event["at"])
        case "finish":
            outcome = event["outcome"]
            name, trial = outcome["digest"], event["trial"]
            before = history.trials.pop(name, None)
            kind = "victim" if trial["attack"] is None else "attack"
            record = before or TrialRecord(kind, event.get("label", name), history.sessions, None)
            record.session, record.outcome = history.sessions, outcome
            record.trial = trial if trials else None
            history.trials[name] = record


class Journal:
    """The driver's pen: one line per event, written at once, at a cost that does not grow.

    A full disk is told once, through `warn`, and ends nothing: the lines wait for the next event. `earlier`
    holds the trees of the trials that ended in earlier sessions, and of their outcomes.
    """

    def __init__(self, folder: Path, warn: Callable[[str], object]) -> None:
        self._path, self._warn = folder / JOURNAL, warn
        records = read_journal(folder, trials=True).trials.values()
        self.earlier = [(one.trial, one.outcome) for one in records if one.trial and one.outcome]
        self._written = {outcome["digest"]: _fingerprint(outcome) for _, outcome in self.earlier}
        self._waiting: deque[bytes] = deque()
        self._torn = not _ends_with_newline(self._path)
        self._warned = False

    def begin(self, **more: Any) -> None:
        """A driver takes up the sweep."""
        self._write("begin", pid=os.getpid(), host=socket.gethostname(), **more)

    def start(self, digest: str, kind: str, label: str) -> None:
        """A trial has begun, or begins again."""
        self._written.pop(digest, None)
        self._write("start", digest=digest, kind=kind, label=label)

    def finish(self, trial: Mapping[str, Any], outcome: Mapping[str, Any], label: str) -> None:
        """A trial has ended, one way or another; what stands there already is not written again."""
        name, content = outcome["digest"], _fingerprint(outcome)
        if self._written.get(name) != content:
            self._written[name] = content
            self._write("finish", label=label, outcome=outcome, trial=trial)

    def end(self, status: str, **more: Any) -> None:
        """The driver ends: FINISHED, FAILED or KILLED."""
        self._write("end", status=status, **more)

    def _write(self, event: str, **content: Any) -> None:
        line = json.dumps({"at": time.time(), "event": event, **content}, separators=(",", ":"))
        self._waiting.append(line.encode() + b"\n")
        try:
            with self._path.open("ab", buffering=0) as file:
                while self._waiting:
                    self._append(file, self._waiting[0])
                    self._waiting.popleft()
        except OSError as error:
            if not self._warned:
                self._warn(f"warning: {self._path}: {error.strerror}; what happens is written down when that is over")
            self._warned = True

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
