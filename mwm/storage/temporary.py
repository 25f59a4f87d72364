"""Names for files that are being written: they tell by whom, so that what the dead leave behind can be known."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

STALE_SECONDS = 3600.0
"""Nobody is silent for so long in the middle of a file."""

_NAME = re.compile(r"\..+~(?P<host>[^~]+)~(?P<pid>\d+)~[0-9a-f]{8}")


def temporary_name(name: str) -> str:
    """A name next to `name`, used by nobody else."""
    return f".{name}~{_host()}~{os.getpid()}~{uuid.uuid4().hex[:8]}"


def is_stale(name: str, modified: float, *, now: float | None = None, silence: float = STALE_SECONDS) -> bool:
    """Whether a name is a temporary one and its writer is dead: it is gone, or silent for `silence` seconds elsewhere.

    One that lives on this machine may be silent for `STALE_SECONDS`: it may have been put to sleep. `modified` and
    `now` are Unix times; without `now` the clock of this machine counts.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return False
    here = found["host"] == _host()
    if here and not _alive(int(found["pid"])):
        return True
    return (time.time() if now is None else now) - modified > (STALE_SECONDS if here else silence)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@cache
def _host() -> str:
    """This machine, or the container of it in which process numbers mean the same."""
    name = socket.gethostname()
    with suppress(OSError):
        name = f"{name}.{Path('/proc/self/ns/pid').stat().st_ino}"
    return re.sub(r"[^\w.-]+", "-", name)
