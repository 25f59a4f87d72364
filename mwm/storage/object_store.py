"""An object store, or any other file system that pyarrow or fsspec can open."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, TypeVar

from mwm.storage.local import FileInfo
from mwm.storage.redaction import MAX_REASON_CHARS, redact_uri, uri_secrets
from mwm.storage.temporary import is_stale, temporary_name

ATOMIC = {"s3", "s3a", "gcs", "gs", "abfs", "abfss", "az"}
"""Stores in which nobody sees an object before it is whole."""

_Answer = TypeVar("_Answer")


class ObjectStore:
    """Files under a URI such as s3://BUCKET/PATH, with the methods of `LocalFiles`."""

    def __init__(self, uri: str) -> None:
        self.root, self.display_name = uri, redact_uri(uri)
        self._system, path = as_storage_error(uri, lambda: _connect(uri))
        self._path = path.rstrip("/")
        self._atomic = not ATOMIC.isdisjoint(re.findall(r"\w+", self._system.type_name))

    def read(self, name: str) -> bytes:
        """The content of a file; FileNotFoundError if there is none."""
        # Not open_input_stream: its read() asks S3 for 64 kB at a time.
        with self._system.open_input_file(f"{self._path}/{name}") as file:
            return bytes(file.read())

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file in hex; FileNotFoundError if there is none."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def write(self, name: str, data: bytes | memoryview, *, sync: bool = False) -> None:
        """Write a file whole; `sync` has no meaning here, what was accepted is kept."""
        del sync
        path = PurePosixPath(self._path, name)
        if self._atomic:
            self._send(str(path), data)
            return
        draft = str(path.with_name(temporary_name(path.name)))
        self._system.create_dir(str(path.parent), recursive=True)
        try:
            self._send(draft, data)
            self._move(draft, str(path))
        except BaseException:
            with suppress(OSError):
                self._system.delete_file(draft)
            raise

    def _send(self, path: str, data: bytes | memoryview) -> None:
        with self._system.open_output_stream(path) as file:
            file.write(data)

    def _move(self, draft: str, path: str) -> None:
        try:
            self._system.move(draft, path)
        except OSError:
            if not self._system.get_file_info(path).is_file:
                raise
            self._system.delete_file(path)  # some drives, HDFS among them, move nothing onto what is there
            self._system.move(draft, path)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._system.get_file_info(f"{self._path}/{name}").is_file)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with suppress(FileNotFoundError):
            self._system.delete_file(f"{self._path}/{name}")

    def remove_tree(self, folder: str) -> None:
        """Remove a folder with all that is in it."""
        with suppress(FileNotFoundError):
            self._system.delete_dir(f"{self._path}/{folder}")

    def remove_if_empty(self, folder: str) -> None:
        """Remove a folder if nothing is in it."""
        if not self._list(f"{self._path}/{folder}"):
            self.remove_tree(folder)

    def remove_stale(self, folder: str) -> None:
        """Remove what dead processes have left half written in a folder."""
        if self._atomic:
            return
        for info in self._list(f"{self._path}/{folder}"):
            if info.is_file and is_stale(info.base_name, _modified(info)):
                with suppress(FileNotFoundError):
                    self._system.delete_file(info.path)

    def walk(self, below: str = "") -> Iterator[FileInfo]:
        """All files and folders at any depth."""
        for info in self._list(f"{self._path}/{below}".rstrip("/"), recursive=True):
            name = info.path.removeprefix(self._path).lstrip("/")
            yield FileInfo(name, info.size or 0, _modified(info), not info.is_file)

    def _list(self, path: str, *, recursive: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector

        return list(self._system.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive)))


def _modified(info: Any) -> float:
    """When a file was changed; now, where that is not known, so that nothing is thrown away for its age."""
    return time.time() if info.mtime_ns is None else float(info.mtime_ns / 1e9)


def as_storage_error(uri: str, ask: Callable[[], _Answer]) -> _Answer:
    """Ask the service behind a URI, whose libraries raise what they like: here that is one line, a ValueError."""
    try:
        return ask()
    except Exception as error:
        lines = str(error).replace(uri, redact_uri(uri)).splitlines()
        said = " ".join(lines[0].split()) if lines else type(error).__name__
        reason = said[max(said.rfind("AWS Error "), 0) :][:MAX_REASON_CHARS]  # before it stands the long path
        if any(secret in reason for secret in uri_secrets(uri)):
            reason = type(error).__name__
        allowed = "name a folder, or a place you can write such as s3://BUCKET/PATH"
        raise ValueError(f"--storage: {redact_uri(uri)} cannot be used ({reason}); {allowed}") from None


def _connect(uri: str) -> tuple[Any, str]:
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    full = uri
    if uri.startswith("s3:") and "allow_delayed_open" not in uri:
        # Without it a small object takes three requests, and a process that dies leaves an upload without an end.
        full += ("&" if "?" in uri else "?") + "allow_delayed_open=true"
    try:
        found: tuple[Any, str] = FileSystem.from_uri(full)
        return found
    except ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
    from fsspec.core import url_to_fs

    system, path = url_to_fs(uri)
    return PyFileSystem(FSSpecHandler(system)), path
