"""MLflow's page for a database: a server of one's own on this machine, with nothing in it but what shows runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from mwm.storage.redaction import redacted_excerpt

HERE, HOST = "127.0.0.1", "mwm.localhost"
"""Where it listens, and by which name browsers are sent there: on a page of `localhost` or 127.0.0.1 MLflow opens its
chat assistant, which no setting switches off. Browsers know that all names below localhost are this machine."""

START_SECONDS, END_SECONDS = 120.0, 10.0
"""How long a server may take to start and to end."""

OPTIONS = "--threads 8 --log-level error"
"""Of gunicorn. The server that MLflow prefers to it also answers to the chat assistant, which runs commands here."""


def free_port(asked: int) -> int:
    """A port on which nothing listens: the one that is asked for, else any."""
    for port in (asked, 0):
        with suppress(OSError), socket.create_server((HERE, port)) as listening:
            return int(listening.getsockname()[1])
    raise OSError("no port is free")


@contextmanager
def page_server(uri: str, port: int) -> Iterator[str]:
    """A running server for the database at `uri`: the address of its page. In the end all of its processes are gone.

    Raises ValueError, in one line, if it does not start.
    """
    with TemporaryDirectory(prefix="mwm-ui-") as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "mlflow", "server", "--host", HERE, "--port", f"{port}", "--workers", "1"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--gunicorn-opts", OPTIONS],
                cwd=folder,  # MLflow takes an old store in the folder where it starts for its own
                env=_environment(uri, port),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the command alone, which then ends all processes of the server
            )
        try:
            _wait(process, port, log)
            yield f"http://{HOST}:{port}"
        finally:
            _end(process)


def _environment(uri: str, port: int) -> dict[str, str]:
    """What the server is told; an address may hold a password, and other users can see the words of a command."""
    hosts = ",".join(f"{name}:{port}" for name in (HERE, "localhost", HOST))
    return os.environ | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(encoding="utf-8", errors="replace").split("\n")
            why = next((line for line in reversed(said) if line.strip()), "it does not answer")
            raise ValueError(f"the page cannot be shown: MLflow's server does not start ({redacted_excerpt(why)})")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        with closing(HTTPConnection(HERE, port, timeout=5)) as connection:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server with all its processes, which are a group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
