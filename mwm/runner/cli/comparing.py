"""How to look at the runs of a sweep in MLflow: a line that can be pasted into any shell, in any folder."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

from mwm.storage.addresses import sqlite_file
from mwm.storage.redaction import redact
from mwm.storage.tracking_uri import resolve_tracking_uri

STARS = "***"
"""What is shown in place of a password."""


def how_to_compare(uri: str, *, name: str, experiment: str, page: str) -> str:
    """The view of a sweep at `page` of a server, or the command that shows a database; no password is shown.

    A password reaches the command by an environment variable: other users of a machine can see the words of a command.
    """
    if uri.startswith("http"):
        return page_of(uri) + page
    if uri.partition("://")[0] == "databricks":
        return f"the experiment {experiment} in Databricks"
    launch = str(Path(sys.argv[0]).absolute())
    program = [launch] if os.access(launch, os.X_OK) and not launch.endswith(".py") else [sys.executable, launch]
    command = shlex.join([*program, "ui", name])
    shown = uri if sqlite_file(uri) else redact(uri)
    if shown == uri:
        return f"{command} --tracking-uri {shlex.quote(uri)}"
    if _is_of_environment(uri):
        return command
    hint = f"    (with the password in place of {STARS})"
    return f"MLFLOW_TRACKING_URI={shlex.quote(shown)} {command}{hint}"


def page_of(uri: str) -> str:
    """The page of a server, without a password; raises ValueError for one that has a page of its own."""
    place = urlsplit(uri)
    if place.scheme == "databricks":
        raise ValueError(f"--tracking-uri: {redact(uri)} has a page of its own, which knows no views")
    return f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path.rstrip('/')}"


def _is_of_environment(uri: str) -> bool:
    """Whether the environment names this very address."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return bool(given) and resolve_tracking_uri(given) == uri
