"""Who works on a sweep at present: locks that go with the process which holds them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mwm.storage.lock import lock_file

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
def sweep_lock(folder: Path, verb: str = "run") -> Iterator[None]:
    """Keep every other process off the sweep in results/NAME, and `clean` off all of results/.

    Raises ValueError when another one is there.
    """
    try:
        files = (folder.parent / LOCK).open("a", encoding="utf-8"), (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--storage: {folder} cannot be locked ({error.strerror})") from None
    with files[0] as shared, files[1] as own:
        if not _locked(shared, shared=True):
            raise ValueError(f"--storage: {folder.parent.parent} is being cleaned; try again in a moment")
        if not _locked(own):
            hint = "choose a new one by --name" if verb == "run" else f"{verb} it when that has ended"
            doing = "synced" if (holder := _read_holder(own)).verb == "sync" else "run"
            raise ValueError(f"name: {folder.name!r} is being {doing} by {holder}; {hint}")
        own.truncate(0)
        own.write(f"{verb} {os.getpid()} {socket.gethostname()}\n")
        own.flush()
        yield


@contextmanager
def cleanup_lock(results: Path) -> Iterator[bool]:
    """Whether no sweep in results/ is worked on; if so, none can begin before the end of the block.

    Raises ValueError when nothing can be written there.
    """
    try:
        shared = (results / LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--storage: {results} cannot be written ({error.strerror})") from None
    with shared:
        yield _locked(shared)


def holder(folder: Path) -> Holder | None:
    """Who holds the lock of a sweep; None if nobody on this machine does. Writes nothing."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as lock:
            return None if _locked(lock, shared=True, patience=0.0) else _read_holder(lock)
    except OSError:
        return None


def remove_lock(folder: Path) -> None:
    """Take away the lock of a folder in which nothing was begun, unless somebody holds it."""
    with suppress(OSError), (folder / LOCK).open("r+", encoding="utf-8") as lock:
        if _locked(lock, patience=0.0):
            (folder / LOCK).unlink()


def _locked(lock: IO[str], *, shared: bool = False, patience: float | None = None) -> bool:
    """Whether a lock could be had, within `PATIENCE_SECONDS` unless told; ValueError where files cannot be locked."""
    try:
        return lock_file(lock, shared=shared, patience=PATIENCE_SECONDS if patience is None else patience)
    except OSError as error:
        raise ValueError(f"--storage: {lock.name} cannot be locked ({error.strerror})") from None


def _read_holder(lock: IO[str]) -> Holder:
    lock.seek(0)
    match lock.read().split():
        case [verb, pid, host] if pid.isdecimal():
            return Holder(verb, int(pid), host)
    return Holder()
