"""Addresses of files and databases on this machine: the one place where a path becomes an address, and back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

SQLITE = "sqlite:///"


def sqlite_uri(database: Path, options: str = "") -> str:
    """The address of a SQLite database, as SQLAlchemy reads it: whatever means something in an address is quoted."""
    return SQLITE + quote(str(database.absolute())) + (f"?{options}" if options else "")


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database on disk; None for any other address."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(unquote(path)) if uri.startswith(SQLITE) and path not in ("", ":memory:") else None


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
