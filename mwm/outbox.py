"""Writes to a service that may be away: in order, bounded in time, kept until they are sent."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mwm.address import without_password

TRIES = 3
BACKLOG = 20_000
PAUSE_SECONDS = 5.0


@dataclass
class _Write:
    send: Callable[[], object]
    tries: int = 0


class Outbox:
    """A queue of writes to `service`, which raise an Exception when they fail; nothing of that reaches the caller.

    A failed write stays at the head, and nothing is tried for a while: ten times as long as the failure took, so that a
    service which hangs costs a tenth of the caller's time at most. No repetition mends a failure whose `error_code` is
    among `hopeless`; `present` tells whether the service answers at all, and while it does not, nothing is given up.
    A kind of failure is told once, in one line on stderr.
    """

    def __init__(self, service: str, *, hopeless: Collection[str], present: Callable[[], bool]) -> None:
        self._service, self._hopeless, self._present = service, hopeless, present
        self._writes: deque[_Write] = deque()
        self._warned: set[str] = set()
        self._paused_until = 0.0

    def __len__(self) -> int:
        return len(self._writes)

    def put(self, send: Callable[[], object], *, spare: bool = False) -> None:
        """Add a write; `send` may be called more than once. A `spare` one is dropped when too many wait already."""
        if spare and len(self._writes) >= BACKLOG:
            self.warn("backlog", f"{BACKLOG} writes wait; metrics are dropped until they are sent")
            return
        self._writes.append(_Write(send))

    def drain(self, seconds: float, *, impatient: bool = False) -> None:
        """Send what waits, for about `seconds`; `impatient` cuts a pause short."""
        began = time.monotonic()
        if began < self._paused_until and not impatient:
            return
        while self._writes and time.monotonic() < began + seconds:
            if not self._send(self._writes[0]):
                return
            self._writes.popleft()

    def _send(self, write: _Write) -> bool:
        """Whether a write is settled: sent, or given up."""
        began = time.monotonic()
        try:
            write.send()
        except Exception as error:
            code = getattr(error, "error_code", "")
            self.warn(type(error).__name__ + code, one_line(error))
            write.tries += 1
            if code in self._hopeless or (write.tries >= TRIES and self._present()):
                return True
            took = time.monotonic() - began
            self._paused_until = time.monotonic() + max(PAUSE_SECONDS, 10 * took)
            return False
        return True

    def warn(self, kind: str, message: str) -> None:
        """Say something in one line on stderr, once for each `kind`."""
        if kind not in self._warned:
            self._warned.add(kind)
            print(f"warning: {self._service}: {message}", file=sys.stderr)


def one_line(error: Exception) -> str:
    """The start of what an error says, in one line and without the passwords of URIs."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_password(" ".join(lines[0].split()))[:300]
