"""Where MLflow keeps runs: addresses, and whether something answers there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVERS = ("http", "https", "databricks")
DATABASES = ("postgresql", "mysql", "mssql")
ALLOWED = "http://HOST:PORT, https://HOST, sqlite:///PATH, postgresql://..., mysql://..., mssql://... or databricks"
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what fails is kept and sent again by the outbox
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PGCONNECT_TIMEOUT": "5",
}
LONGEST = 200
"""Letters that are shown of a text from elsewhere."""

SHORT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def resolve(uri: str | None) -> str:
    """Where the results of a sweep go: `uri`, else MLFLOW_TRACKING_URI, else mlflow.db in the current folder.

    A path of SQLite is made absolute, so that it means the same in every process; a PostgreSQL address that names no
    driver gets the installed one. Raises ValueError for anything that is neither a server nor a database on disk.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path, mark, options = uri.removeprefix("sqlite:///").partition("?")
    if uri.startswith("sqlite:///") and path not in ("", ":memory:"):
        return f"sqlite:///{Path(path).expanduser().absolute()}{mark}{options}"
    if uri == "databricks" or ("://" in uri and _service(uri) in (*SERVERS, *DATABASES)):
        return re.sub("^postgresql://", "postgresql+psycopg2://", uri)  # SQLAlchemy 2.1 would ask for psycopg 3
    raise ValueError(f"--tracking-uri: {without_password(uri)!r} is not allowed; write one of {ALLOWED}")


def _service(uri: str) -> str:
    return uri.partition("://")[0].partition("+")[0]


def without_password(text: str) -> str:
    """A text in which no URI shows a password any more."""
    text = re.sub(r"(://[^:/\s@]*):\S*@", r"\1:***@", text)
    text = re.sub(r"(https?://)[^:/\s@]+@", r"\1***@", text)
    return re.sub(r"(?i)\b([\w-]*(?:password|passwd|pwd|token|secret|key|sig|signature))=[^&\s]+", r"\1=***", text)


def short(text: str, longest: int = LONGEST) -> str:
    """A text from elsewhere, fit to be shown: one line, printable, no password of a URI in it.

    Of more than `longest` letters the middle is left out: what matters stands at the start or at the very end.
    """
    line = " ".join(without_password(text).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    half = (longest - 5) // 2
    return shown if len(shown) <= longest else f"{shown[: longest - 5 - half]} ... {shown[-half:]}"


def bottom(error: BaseException) -> BaseException:
    """What lies at the bottom of an error: of a connection that fails, those above it repeat the whole address."""
    while deeper := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = deeper
    return error


def files_beside(uri: str, experiment: str) -> str | None:
    """Where the files of an experiment go: beside a SQLite database, wherever that is; else as the store likes."""
    database = _sqlite_file(uri)
    return (database.parent / "mlruns" / re.sub(r"[^\w.-]+", "-", experiment)).as_uri() if database else None


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def touch(uri: str) -> None:
    """Open a database once, where MLflow would try ten times and for minutes; a server is left alone."""
    if _service(uri) in SERVERS:
        return
    from sqlalchemy import create_engine

    if path := _sqlite_file(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def be_quiet() -> None:
    """Make MLflow quiet and quick to give up, by those of its environment variables which the user has not set."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def patience() -> Iterator[None]:
    """Wait for a server's answer for seconds only, whatever the user's settings."""
    before = {name: os.environ.get(name, QUIET[name]) for name in SHORT}
    os.environ |= SHORT
    try:
        yield
    finally:
        os.environ |= before
