"""Writes to a service that may be away: sent in order by a thread of their own, and kept until they are sent."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Condition, Thread

from mwm.runner.tracking.faults import error_code, reason

MAX_ATTEMPTS, BACKLOG = 3, 1_000
"""How often a write is tried while the service answers, and how many wait before droppable ones are left out."""

PAUSE_SECONDS, HURRIED_PAUSE_SECONDS = 5.0, 1.0
"""How long a service that failed is left alone, and while `flush` waits for it."""

GRACE_SECONDS = 10.0
"""So long does `flush` wait for a service that is away: it may just be starting again."""

REST_SECONDS = 60.0
"""So long no write is tried of a kind of which one was given up."""

Send = Callable[[], object]


@dataclass
class _Write:
    send: Send
    kind: str
    attempts: int = 0


class Outbox:
    """A queue of writes to `service`, which raise an Exception when they fail; nothing of that reaches the caller.

    One daemon thread sends. A failed write stays at the head and is tried again after a pause; `is_reachable` tells
    whether the service answers at all, and only while it does, a write is given up after MAX_ATTEMPTS. No repetition
    mends a failure whose `error_code` is among `permanent`. A write may be of a `kind`, which the service may lack
    while it takes all others: where one was given up after MAX_ATTEMPTS, those that follow are given up untried for a
    while. `missing` counts what was given up, by kind. A kind of failure is told once, in one line on stderr.
    """

    def __init__(self, service: str, *, permanent: Collection[str], is_reachable: Callable[[], bool]) -> None:
        self.missing: Counter[str] = Counter()
        self._resting: dict[str, float] = {}
        self._service, self._permanent, self._is_reachable = service, permanent, is_reachable
        self._writes: deque[_Write] = deque()
        self._warned: set[str] = set()
        self._changed = Condition()
        self._hurried = self._ended = False
        self._paused_until = 0.0
        self._away_since: float | None = None
        self._thread = Thread(target=self._work, name=f"outbox to {service}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        with self._changed:
            return len(self._writes)

    def put(self, send: Send, kind: str = "", *, droppable: bool = False) -> None:
        """Add a write; `send` may be called more than once. A `droppable` one is left out when many wait already."""
        with self._changed:
            if not droppable or len(self._writes) < BACKLOG:
                self._writes.append(_Write(send, kind))
                self._changed.notify_all()

    def flush(self, seconds: float) -> int:
        """Wait until all is sent, but `seconds` at most, less if the service stays away; the number of writes left."""
        with self._changed:
            self._hurried, self._paused_until, self._away_since = True, 0.0, None
            self._changed.notify_all()
            try:
                self._changed.wait_for(self._settled, seconds)
            finally:
                self._hurried = False
            return len(self._writes)

    def _settled(self) -> bool:
        away = self._away_since is not None and time.monotonic() - self._away_since >= GRACE_SECONDS
        return away or not self._writes

    def close(self, seconds: float) -> int:
        """Flush, and end the thread; the number of writes that did not get through, now or ever."""
        end = time.monotonic() + seconds
        left = self.flush(seconds)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(max(0.0, end - time.monotonic()) if left == 0 else 0.0)
        return left + self.missing.total()

    def _work(self) -> None:
        while (write := self._next()) is not None:
            sent = self._send(write)
            with self._changed:
                if sent:
                    self._writes.popleft()
                self._changed.notify_all()

    def _next(self) -> _Write | None:
        """Wait for the write whose turn it is; None once the outbox is closed."""
        with self._changed:
            while not self._ended:
                pause = self._paused_until - time.monotonic()
                if self._writes and pause <= 0:
                    return self._writes[0]
                self._changed.wait(pause if self._writes else None)
            return None

    def _send(self, write: _Write) -> bool:
        """Whether a write is settled: sent, or given up."""
        if time.monotonic() < self._resting.get(write.kind, 0.0):
            self.missing[write.kind] += 1
            return True
        try:
            write.send()
        except Exception as error:
            return self._failed(write, error)
        self._away_since = None
        return True

    def _failed(self, write: _Write, error: Exception) -> bool:
        """Tell of a failure; whether the write is given up."""
        hopeless = error_code(error) in self._permanent
        here = hopeless or self._is_reachable()
        what = f"writing {write.kind} failed: " if write.kind and here else ""
        self.warn(what + type(error).__name__ + error_code(error), what + reason(error))
        write.attempts += here
        if hopeless or write.attempts >= MAX_ATTEMPTS:
            self.missing[write.kind] += 1
            if write.kind and not hopeless:
                self._resting[write.kind] = time.monotonic() + REST_SECONDS
            return True
        with self._changed:
            now = time.monotonic()
            self._away_since = None if here else self._away_since or now
            self._paused_until = now + (HURRIED_PAUSE_SECONDS if self._hurried else PAUSE_SECONDS)
        return False

    def warn(self, kind: str, message: str) -> None:
        """Say something in one line on stderr, once for each `kind`."""
        if kind not in self._warned:
            self._warned.add(kind)
            print(f"warning: {self._service}: {message}", file=sys.stderr)
