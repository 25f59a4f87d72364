"""Files under one root, in a folder or in an object store: read, written whole, listed, removed."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from mwm.storage.addresses import file_path
from mwm.storage.local import LocalFiles
from mwm.storage.object_store import ObjectStore, as_storage_error

Files = LocalFiles | ObjectStore
"""Both have the same methods, and names below the root such as `a/b.json`."""

TRANSIENT_ERRNOS = (None, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
"""Numbers of errors that pass; an object store's have none."""


def open_filesystem(root: str | Path) -> Files:
    """The files under a folder or a URI; ValueError, in one line, for a URI that cannot be understood."""
    text = str(root)
    if text.startswith("file://"):
        return LocalFiles(file_path(text))
    if "://" in text:
        return ObjectStore(text)
    if re.match(r"[a-z][a-z0-9+.-]+:/", text):
        raise ValueError(
            f"--storage: {text.partition('@')[2] or text} is neither a folder nor a URI; write SCHEME://PATH"
        )
    return LocalFiles(root)


def require_folder(path: Path) -> None:
    """ValueError, in one line, for what is there but is no folder that can be read, or can never be there."""
    try:
        os.scandir(path).close()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ValueError(f"--storage: {path} cannot be read ({getattr(error, 'strerror', error)})") from None


def require_writable(root: str | Path) -> None:
    """Make a folder of results, here or under a URI; ValueError, in one line, when nothing can be written there."""
    files = open_filesystem(root)
    if isinstance(files, ObjectStore):
        return as_storage_error(files.root, lambda: _probe(files))
    try:
        Path(files.root).mkdir(parents=True, exist_ok=True)
        _probe(files)
    except OSError as error:
        lost = isinstance(error, FileExistsError) and Path(files.root).is_symlink()
        why = "it is a link that leads nowhere" if lost else error.strerror
        reason = f"cannot be written ({why}); name a folder you own"
        raise ValueError(f"--storage: {root} {reason}") from None
    return None


def _probe(files: Files) -> None:
    files.write(".probe", b"x")
    files.remove(".probe")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file on this machine whole: whoever reads it meanwhile sees the old one."""
    LocalFiles(path.parent).write(path.name, content.encode() if isinstance(content, str) else content)


def is_transient(error: BaseException) -> bool:
    """Whether the same may succeed later: a disk was full, or a server away."""
    away = isinstance(error, ConnectionError | TimeoutError)
    return away or (isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS)
