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


def how_to_compare(uri: str, *, experiment: str, experiment_id: str) -> str:
    """The page of an experiment on a server, or the command that shows a database; no password is shown.

    A password reaches MLflow by an environment variable: other users of a machine can see the words of a command.
    """
    if uri.startswith("http"):
        place = urlsplit(uri)
        host = place.netloc.rpartition("@")[2]
        return f"{place.scheme}://{host}{place.path.rstrip('/')}/#/experiments/{experiment_id}"
    if uri.partition("://")[0] == "databricks":
        return f"the experiment {experiment} in Databricks"
    script = Path(sys.executable).with_name("mlflow")
    command = shlex.join([str(script)] if script.exists() else [sys.executable, "-m", "mlflow"])
    shown = uri if sqlite_file(uri) else redact(uri)
    if shown == uri:
        return f"{command} ui --backend-store-uri {shlex.quote(uri)}"
    if _is_of_environment(uri):
        driver, name = uri.partition(":")[0], "MLFLOW_TRACKING_URI"
        return f'MLFLOW_BACKEND_STORE_URI={driver}:"${{{name}#*:}}" {command} ui'
    hint = f"    (with the password in place of {STARS})"
    return f"MLFLOW_BACKEND_STORE_URI={shlex.quote(shown)} {command} ui{hint}"


def _is_of_environment(uri: str) -> bool:
    """Whether the environment names this very address."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return bool(given) and resolve_tracking_uri(given) == uri
