"""A folder on a disk or a network drive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mwm.storage.temporary import is_stale, temporary_name


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or a folder: its name below the root, bytes, and the Unix time of its last change."""

    name: str
    bytes: int
    modified: float
    folder: bool = False


class LocalFiles:
    """Files in a folder. Each is written beside its place and moved there: a reader sees the old one or the new one.

    `root` names the same files in every process; `display_name` is fit for the screen. All methods raise OSError.
    """

    def __init__(self, root: str | Path) -> None:
        self.path = Path(root).absolute()
        self.root = self.display_name = str(self.path)

    def read(self, name: str) -> bytes:
        """The content of a file; FileNotFoundError if there is none."""
        return (self.path / name).read_bytes()

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file in hex; FileNotFoundError if there is none."""
        return sha256(self.path / name)

    def write(self, name: str, data: bytes | memoryview, *, sync: bool = False) -> None:
        """Write a file whole, and its folder if need be; with `sync`, a power failure does not undo it.

        What goes wrong, a full disk above all, leaves the old file and nothing beside it.
        """
        path = self.path / name
        draft = path.with_name(temporary_name(path.name))
        made = False
        try:
            file, made = _created(draft)
            with file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
                if made:
                    path.parent.rmdir()
            raise
        if sync:
            _sync_names(path.parent)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with suppress(NotADirectoryError):
            (self.path / name).unlink(missing_ok=True)

    def remove_tree(self, folder: str) -> None:
        """Remove a folder with all that is in it."""
        with suppress(FileNotFoundError), os.scandir(self.path / folder) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    self.remove_tree(f"{folder}/{item.name}")
                else:
                    Path(item.path).unlink(missing_ok=True)
        self.remove_if_empty(folder)

    def remove_if_empty(self, folder: str) -> None:
        """Remove a folder if nothing is in it."""
        with suppress(OSError):
            (self.path / folder).rmdir()

    def remove_stale(self, folder: str) -> None:
        """Remove what dead processes have left half written in a folder."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path / folder) as found:
            for item in found:
                with suppress(FileNotFoundError):
                    if "~" in item.name and is_stale(item.name, item.stat().st_mtime):
                        Path(item.path).unlink()

    def walk(self, below: str = "") -> Iterator[FileInfo]:
        """All files and folders at any depth."""
        with suppress(FileNotFoundError), os.scandir(self.path / below) as found:
            for item in found:
                with suppress(FileNotFoundError):
                    state, folder = item.stat(follow_symlinks=False), item.is_dir(follow_symlinks=False)
                    yield FileInfo(below + item.name, 0 if folder else state.st_size, state.st_mtime, folder)
                    if folder:
                        yield from self.walk(f"{below}{item.name}/")


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _created(path: Path) -> tuple[BinaryIO, bool]:
    """A new file, and whether its folder was made for it: another process may be removing that as an empty one."""
    made = False
    for _ in range(10):
        try:
            return path.open("xb"), made
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = True
        except OSError:
            if made:
                path.parent.rmdir()
            raise
    raise FileNotFoundError(f"{path.parent} is removed again and again")


def _sync_names(folder: Path) -> None:
    """Bring the names of a folder's files to the disk."""
    with suppress(OSError):  # some network drives know no such call
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
