"""Locks on files, which go with the process that holds them, also where a file system knows none."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mwm.storage.temporary import is_stale, temporary_name

RETRY_SECONDS = 0.05

UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Numbers of errors by which a file system says that it knows no locks."""

CLAIM_SECONDS, SILENT_SECONDS = 10.0, 60.0
"""How often a process renews its claim, and after what silence on another machine it is taken for dead."""


def lock_file(file: IO[Any], *, shared: bool = False, patience: float = 0.0) -> bool:
    """Whether an open file could be locked within `patience` seconds, against everybody or `shared` with its like.

    The lock lasts until the file is closed, or the process is dead. A file that was taken away meanwhile keeps nobody
    off: its lock is none. NFSv4 gives a shared lock only on what is open for reading, any other only on what is open
    for writing: open it for both. Raises OSError where files cannot be locked at all.
    """
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            if time.monotonic() >= end:
                return False
            time.sleep(RETRY_SECONDS)
        else:
            return os.fstat(file.fileno()).st_nlink > 0


@contextmanager
def hold_lock(file: IO[Any], *, shared: bool = False, patience: float = 0.0) -> Iterator[bool]:
    """Whether an open file could be locked, as by `lock_file`, for the block at least.

    Where the file system knows no locks, small files beside it take their place: each names its process, which renews
    it while it lives. Raises OSError where neither can be had.
    """
    assert file.readable(), f"{file.name} is open for writing only, which NFSv4 does not lock for several"
    assert file.writable(), f"{file.name} is open for reading only, which NFSv4 does not lock for one"
    try:
        alone = lock_file(file, shared=shared, patience=patience)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
    else:
        yield alone
        return
    with _claim(Path(file.name), shared=shared, patience=patience) as alone:
        yield alone


def is_locked(file: IO[Any]) -> bool:
    """Whether somebody has locked a file for himself alone; it is open for reading, and nothing is written."""
    try:
        return not lock_file(file, shared=True)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
    return bool(_claims(Path(file.name), now=time.time(), shared=True))


def knows_record_locks(folder: Path) -> bool:
    """Whether files in a folder can be locked as SQLite does it. Raises OSError where nothing can be written."""
    probe = folder / temporary_name(".probe")
    try:
        with probe.open("wb") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


@contextmanager
def _claim(path: Path, *, shared: bool, patience: float) -> Iterator[bool]:
    """Claim a path by a file beside it: whoever comes first stays, of two at once neither."""
    own = path.with_name(temporary_name(_claim_name(path, shared=shared)))
    end = time.monotonic() + patience
    while True:
        own.touch(exist_ok=False)
        if not _claims(path, now=own.stat().st_mtime, shared=shared, own=own):
            break
        own.unlink()
        if time.monotonic() >= end:
            yield False
            return
        time.sleep(RETRY_SECONDS * (1 + os.getpid() % 7))  # two that came at once do not meet again
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(own, over), name="claim", daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        over.set()
        renewing.join()
        own.unlink(missing_ok=True)


def _renew(own: Path, over: threading.Event) -> None:
    while not over.wait(CLAIM_SECONDS):
        with suppress(OSError):
            os.utime(own)


def _claims(path: Path, *, now: float, shared: bool, own: Path | None = None) -> list[Path]:
    """The claims to a path that keep one's own off, of processes that live at the time `now` of the file system."""
    kinds = [_claim_name(path, shared=False), *([] if shared else [_claim_name(path, shared=True)])]
    found = []
    for other in path.parent.iterdir():
        if other != own and other.name.startswith(tuple(f".{kind}~" for kind in kinds)):
            with suppress(FileNotFoundError):
                if not is_stale(other.name, other.stat().st_mtime, now=now, silence=SILENT_SECONDS):
                    found.append(other)
    return found


def _claim_name(path: Path, *, shared: bool) -> str:
    return f"{path.name}.{'shared' if shared else 'alone'}"
