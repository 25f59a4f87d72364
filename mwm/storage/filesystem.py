"""Files under one root, in a folder or in an object store: read, written whole, listed, removed."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mwm.storage.local import File, Folder, sha256
from mwm.storage.object_store import Remote, asked
from mwm.storage.redaction import without_secrets

__all__ = [
    "File",
    "Files",
    "Folder",
    "Remote",
    "asked",
    "at",
    "passing",
    "put",
    "sha256",
    "without_secrets",
    "writable",
]

Files = Folder | Remote
"""Both have the same methods, and names below the root such as `a/b.json`."""


LATER = (None, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
"""Numbers of errors that pass; an object store's have none."""


def passing(error: BaseException) -> bool:
    """Whether the same may succeed later: a disk was full, or a server away."""
    return isinstance(error, ConnectionError | TimeoutError) or (isinstance(error, OSError) and error.errno in LATER)


def at(root: str | Path) -> Files:
    """The files under a folder or a URI; ValueError, in one line, for a URI that cannot be understood."""
    text = str(root)
    if text.startswith("file://"):
        return Folder(unquote(urlsplit(text).path))
    if "://" in text:
        return Remote(text)
    if re.match(r"[a-z][a-z0-9+.-]+:/", text):
        raise ValueError(
            f"--storage: {text.partition('@')[2] or text} is neither a folder nor a URI; write SCHEME://PATH"
        )
    return Folder(root)


def writable(root: str | Path) -> None:
    """Make a folder of results, here or under a URI; ValueError, in one line, when nothing can be written there."""
    files = at(root)
    if isinstance(files, Remote):
        return asked(files.root, lambda: _probe(files))
    try:
        Path(files.root).mkdir(parents=True, exist_ok=True)
        _probe(files)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); name a folder you own"
        raise ValueError(f"--storage: {root} {reason}") from None
    return None


def _probe(files: Files) -> None:
    files.write(".probe", b"x")
    files.remove(".probe")


def put(path: Path, content: str | bytes) -> None:
    """Write a file on this machine whole: whoever reads it meanwhile sees the old one."""
    Folder(path.parent).write(path.name, content.encode() if isinstance(content, str) else content)
