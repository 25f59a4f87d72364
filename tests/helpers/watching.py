"""Files the moment they appear: the kernel's own notices (inotify), so that a fault can land inside a write."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

CREATED, MOVED_HERE, IS_FOLDER = 0x100, 0x80, 0x40000000
HEAD = struct.Struct("iIII")


class Seen(NamedTuple):
    """A file that was begun under this name, or moved here whole."""

    how: Literal["begun", "placed"]
    path: Path


class Watch:
    """Every file that appears in a folder or below it; a file in a folder just made may be missed."""

    def __init__(self, folder: Path) -> None:
        self._kernel = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._kernel.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders: dict[int, Path] = {}
        self._add(folder)

    def _add(self, top: Path) -> None:
        for folder, _, _ in os.walk(top):
            number = self._kernel.inotify_add_watch(self.descriptor, os.fsencode(folder), CREATED | MOVED_HERE)
            if number >= 0:  # a folder may be gone again
                self._folders[number] = Path(folder)

    def until(self, seconds: float) -> Iterator[Seen]:
        """What appears in the next so many seconds, each at once."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.descriptor], [], [], left)[0]:
                yield from self._read()

    def _read(self) -> Iterator[Seen]:
        data = os.read(self.descriptor, 65536)
        while data:
            number, mask, _, length = HEAD.unpack_from(data)
            name = data[HEAD.size : HEAD.size + length].rstrip(b"\0")
            data = data[HEAD.size + length :]
            path = self._folders[number] / os.fsdecode(name) if number in self._folders else None
            if path is None or not name:
                continue
            if mask & IS_FOLDER:
                self._add(path)
            else:
                yield Seen("begun" if mask & CREATED else "placed", path)


@contextmanager
def watching(folder: Path) -> Iterator[Watch]:
    watch = Watch(folder)
    try:
        yield watch
    finally:
        os.close(watch.descriptor)
