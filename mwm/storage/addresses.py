"""Addresses of files and databases on this machine: the one place where a path becomes an address, and back."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_SQLITE = re.compile(r"sqlite(\+pysqlite)?:///(?P<path>[^?]+)")
_SPECIAL = re.compile(r"[%?#{}\x00-\x1f\x7f]")
"""What means something in the address of a database, to SQLAlchemy, to MLflow or to Optuna."""


def sqlite_uri(database: Path, options: str = "") -> str:
    """The address of a SQLite database, as SQLAlchemy reads it: what means something in an address is quoted.

    Such an address names the driver, too, because of one that does not MLflow makes the folder as it is written there.
    """
    path = str(database.absolute())
    quoted = _SPECIAL.sub(lambda sign: quote(sign[0]), path)
    return f"sqlite{'' if quoted == path else '+pysqlite'}:///{quoted}" + (f"?{options}" if options else "")


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database on disk; None for any other address."""
    found = _SQLITE.match(uri)
    return Path(unquote(found["path"])) if found and found["path"] != ":memory:" else None


def file_uri(path: Path) -> str:
    """The address of a file or a folder."""
    return path.absolute().as_uri()


def file_path(uri: str) -> Path:
    """The file or folder at an address of the scheme file."""
    return Path(unquote(urlsplit(uri).path))


def expand_home(path: str | Path) -> Path:
    """A path with a home folder in place of its leading `~` or `~user`; of a user that there is not, as it is."""
    with suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)
