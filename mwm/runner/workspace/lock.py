"""Who works on a sweep at present: locks that go with the process which holds them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mwm.storage.lock import hold_lock, is_locked

LOCK = ".lock"
PATIENCE_SECONDS = 0.5
"""A shell that only looks at a lock holds it for a moment; a cleaner holds it for longer."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a sweep's lock, and what for: `run` or `sync`; 0 and "" where it does not say."""

    verb: str = "run"
    pid: int = 0
    host: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"


@contextmanager
def sweep_lock(folder: Path, verb: str = "run", *, store: Path | None = None) -> Iterator[None]:
    """Keep every other process off the sweep in results/NAME, and `clean` off all of results/ and of its store.

    `store` is the folder of the store, if it is one on this machine. Raises ValueError when another process is there.
    """
    with ExitStack() as held:
        for place in (folder.parent, *([store] if store is not None and store.is_dir() else [])):
            if not _take(held, place, shared=True)[1]:
                raise ValueError(f"--storage: {place} is being cleaned; try again in a moment")
        own, alone = _take(held, folder)
        if not alone:
            hint = "choose a new one by --name" if verb == "run" else f"{verb} it when that has ended"
            doing = "synced" if (holder := _read_holder(own)).verb == "sync" else "run"
            raise ValueError(f"name: {folder.name!r} is being {doing} by {holder}; {hint}")
        own.truncate(0)
        own.write(f"{verb} {os.getpid()} {socket.gethostname()}\n")
        own.flush()
        yield


@contextmanager
def cleanup_lock(*places: Path) -> Iterator[bool]:
    """Whether no sweep in results/, or on a store, is worked on; if so, none can begin before the end of the block.

    Raises ValueError when nothing can be written there.
    """
    with ExitStack() as held:
        yield all(_take(held, place)[1] for place in places)


def holder(folder: Path) -> Holder | None:
    """Who holds the lock of a sweep; None if nobody on this machine does. Writes nothing."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as lock:
            return _read_holder(lock) if is_locked(lock) else None
    except OSError:
        return None


def remove_lock(folder: Path) -> None:
    """Take away the lock of a folder in which nothing was begun, unless somebody holds it."""
    with suppress(OSError), (folder / LOCK).open("r+", encoding="utf-8") as lock, hold_lock(lock) as alone:
        if alone:
            (folder / LOCK).unlink()


def _take(held: ExitStack, folder: Path, *, shared: bool = False) -> tuple[IO[str], bool]:
    """The lock file of a folder, and whether it could be had; ValueError where there can be none."""
    done = "written"
    try:
        lock = held.enter_context((folder / LOCK).open("a+", encoding="utf-8"))
        done = "locked"
        return lock, held.enter_context(hold_lock(lock, shared=shared, patience=PATIENCE_SECONDS))
    except OSError as error:
        raise ValueError(f"--storage: {folder} cannot be {done} ({error.strerror})") from None


def _read_holder(lock: IO[str]) -> Holder:
    lock.seek(0)
    match lock.read().split():
        case [verb, pid, host] if pid.isdecimal():
            return Holder(verb, int(pid), host)
    return Holder()
