"""Where MLflow keeps runs: addresses, whether something answers there, and the experiment of verdicts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from mwm.storage.addresses import expand_home, file_uri, sqlite_file, sqlite_uri
from mwm.storage.hosts import is_here
from mwm.storage.lock import knows_record_locks
from mwm.storage.redaction import redact

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
"""What MLflow's own commands take for granted in the current folder."""

VERDICTS = "verdicts"
"""The experiment of verdicts, and their folder in results/: no sweep may have this name."""

MAX_EXPERIMENT_CHARS = 500
"""Letters of the name of an experiment."""

SERVERS = ("http", "https", "databricks")
DATABASES = ("postgresql", "mysql", "mssql")
ALLOWED = "http://HOST:PORT, https://HOST, sqlite:///PATH, postgresql://..., mysql://..., mssql://... or databricks"

MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what fails is kept and sent again by the follower
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PGCONNECT_TIMEOUT": "5",
}
SHORT_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def resolve_tracking_uri(uri: str | None) -> str:
    """Where the results of a sweep go: `uri`, else MLFLOW_TRACKING_URI, else mlflow.db in the current folder.

    A path of SQLite is made absolute, so that it means the same in every process; a PostgreSQL address that names no
    driver gets the installed one. Raises ValueError for anything that is neither a server nor a database on disk.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI
    if file := sqlite_file(uri):
        return sqlite_uri(expand_home(file), uri.partition("?")[2])
    if uri == "databricks" or ("://" in uri and _service(uri) in (*SERVERS, *DATABASES)):
        return re.sub("^postgresql://", "postgresql+psycopg2://", uri)  # SQLAlchemy 2.1 would ask for psycopg 3
    raise ValueError(f"--tracking-uri: {redact(uri)!r} is not allowed; write one of {ALLOWED}")


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where the files of an experiment go: beside a SQLite database, wherever that is; else as the store likes."""
    database = sqlite_file(uri)
    return file_uri(database.parent / "mlruns" / re.sub(r"[^\w.-]+", "-", experiment)) if database else None


def is_server(uri: str) -> bool:
    """Whether a server keeps the runs, and not a database that every client opens itself."""
    return _service(uri) in SERVERS


def experiment_name(asked: str | None, own: str, uri: str, *, before: str | None = None) -> str:
    """The experiment of MLflow at `uri` for what is called `own`: `asked`, which may end with / and be a folder of it.

    Without it that of the time `before`, else one of its own name. Raises ValueError for a name that MLflow refuses;
    Databricks wants an absolute path.
    """
    asked = before or own if asked is None else asked
    name = asked + own if asked.endswith("/") else asked
    wrong = ""
    if not name.strip() or not name.isprintable() or len(name) > MAX_EXPERIMENT_CHARS:
        wrong = f"must be 1 to {MAX_EXPERIMENT_CHARS} printable letters"
    elif _service(uri) == "databricks" and not re.fullmatch("/.*[^/]", name):
        wrong = f"Databricks wants an absolute path, such as /Users/NAME/ (a folder, for {own}) or /Users/NAME/{own}"
    elif name == VERDICTS != own:
        wrong = "it is the experiment of verdicts"
    if wrong:
        raise ValueError(f"--experiment: {redact(name)[:MAX_EXPERIMENT_CHARS]!r} is not allowed: {wrong}")
    return name


def check_database(uri: str) -> None:
    """Open a database once, where MLflow would try ten times and for minutes; a server is left alone."""
    if is_server(uri):
        return
    from sqlalchemy import create_engine

    if path := sqlite_file(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not knows_record_locks(path.parent):
            raise ValueError("the file system knows no locks, which SQLite needs; name a local disk, or a server")
    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def set_mlflow_defaults() -> None:
    """Make MLflow quiet and quick to give up, by those of its environment variables which the user has not set."""
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)


def avoid_proxies(uri: str) -> None:
    """Let requests to a server on this machine go straight there, whatever proxy the environment names."""
    host = urlsplit(uri).hostname if is_server(uri) and getproxies() else None
    if host is None or not is_here(host):
        return
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if listed != "*" and host not in listed.split(","):
        os.environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), f"{listed},{host}".strip(","))


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Wait for a server's answer for seconds only, whatever the user's settings."""
    before = {name: os.environ.get(name, MLFLOW_DEFAULTS[name]) for name in SHORT_TIMEOUTS}
    os.environ |= SHORT_TIMEOUTS
    try:
        yield
    finally:
        os.environ |= before


def _service(uri: str) -> str:
    return uri.partition("://")[0].partition("+")[0]
