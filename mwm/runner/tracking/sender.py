"""Writes to a service that may be away: each is repeated until it arrives, is refused for good, or time is up."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from threading import Event

from mwm.runner.tracking.faults import error_code, reason

MAX_ATTEMPTS = 3
"""How often a write is tried while the service answers."""

PAUSE_SECONDS, HURRIED_PAUSE_SECONDS = 5.0, 1.0
"""How long a service that failed is left alone, and in the end."""

GRACE_SECONDS = 10.0
"""So long is a service that is away waited for in the end: it may just be starting again."""

REST_SECONDS = 60.0
"""So long no write is tried of a kind of which one was given up."""


class UnsentError(Exception):
    """Time is up, or the service stays away in the end."""


class Sender:
    """Writes to `service`, which raise an Exception when they fail.

    A failed write is tried again after a pause; `is_reachable` tells whether the service answers at all, and only while
    it does, a write is given up after MAX_ATTEMPTS. No repetition mends a failure whose `error_code` is among
    `permanent`. A write may be of a `kind`, which the service may lack while it takes all others: where one was given
    up after MAX_ATTEMPTS, those that follow are given up untried for a while. `missing` counts what was given up, by
    kind. A kind of failure is told once, in one line on stderr.
    """

    def __init__(self, service: str, *, permanent: Collection[str], is_reachable: Callable[[], bool]) -> None:
        self.missing: Counter[str] = Counter()
        self._service, self._permanent, self._is_reachable = service, permanent, is_reachable
        self._resting: dict[str, float] = {}
        self._warned: set[str] = set()
        self._hurried = Event()
        self._asked_to_end = self._end = float("inf")

    def hurry(self, seconds: float) -> None:
        """The end is near: pauses are short now, and after `seconds`, or if the service stays away, `send` raises."""
        self._asked_to_end = time.monotonic()
        self._end = self._asked_to_end + seconds
        self._hurried.set()

    def send(self, kind: str, write: Callable[[], object]) -> bool:
        """Whether a write arrived in the end; `write` may be called more than once. Raises UnsentError."""
        if time.monotonic() < self._resting.get(kind, 0.0):
            self.missing[kind] += 1
            return False
        attempts, away_since = 0, float("inf")
        while True:
            if time.monotonic() >= self._end:
                raise UnsentError
            try:
                write()
            except Exception as error:
                hopeless = error_code(error) in self._permanent
                here = hopeless or self._is_reachable()
                self._tell(kind, error, here=here)
                attempts += here
                if hopeless or attempts >= MAX_ATTEMPTS:
                    return self._give_up(kind, for_good=hopeless)
                away_since = float("inf") if here else min(away_since, time.monotonic())
                self._pause(away_since)
            else:
                return True

    def _give_up(self, kind: str, *, for_good: bool) -> bool:
        self.missing[kind] += 1
        if not for_good:
            self._resting[kind] = time.monotonic() + REST_SECONDS
        return False

    def _pause(self, away_since: float) -> None:
        """Leave the service alone for a while."""
        if not self._hurried.is_set():
            self._hurried.wait(PAUSE_SECONDS)
            return
        now = time.monotonic()
        if now - max(away_since, self._asked_to_end) >= GRACE_SECONDS:
            raise UnsentError
        time.sleep(max(0.0, min(HURRIED_PAUSE_SECONDS, self._end - now)))

    def _tell(self, kind: str, error: Exception, *, here: bool) -> None:
        what = f"writing {kind} failed: " if here else ""
        self.warn(what + type(error).__name__ + error_code(error), what + reason(error))

    def warn(self, kind: str, message: str) -> None:
        """Say something in one line on stderr, once for each `kind`."""
        if kind not in self._warned:
            self._warned.add(kind)
            print(f"warning: {self._service}: {message}", file=sys.stderr)
