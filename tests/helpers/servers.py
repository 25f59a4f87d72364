"""Real servers on 127.0.0.1 for tests: MLflow with its artifact proxy, and PostgreSQL with a password."""

from __future__ import annotations

import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
START_SECONDS = 120.0


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, and which the system gives to nobody who asks for any port."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_until(done: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> None:
    """Wait for something that a process brings about; fails if it ends before."""
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        assert time.monotonic() < end, f"{process.args!r} did not get that far in {seconds} s"
        time.sleep(0.05)


class MlflowServer:
    """An MLflow server over the database at `backend`, which hands out the artifacts in `folder` itself.

    With `root` it does not: clients are to write them into that folder.
    """

    def __init__(self, backend: str, folder: Path, root: Path | None = None) -> None:
        self.backend, self.folder, self.root, self.port = backend, folder, root, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, always at the same address, and wait until it answers."""
        options = f"--host 127.0.0.1 --port {self.port} --workers 1 --backend-store-uri {self.backend}"
        command = [sys.executable, "-m", "mlflow", "server", *options.split()]
        handed = ["--artifacts-destination", str(self.folder / "artifacts")]
        command += handed if self.root is None else ["--no-serve-artifacts", "--default-artifact-root", str(self.root)]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "mlflow.log").open("ab") as log:
            quiet: dict[str, Any] = {"stdout": log, "stderr": log}
            started = subprocess.Popen(command, cwd=self.folder, start_new_session=True, env=environment, **quiet)
        self._process = started
        wait_until(self._healthy, started)

    @property
    def alive(self) -> bool:
        """Whether it was started, and not killed since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process that started all others of it."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, HTTPException, OSError):
            return False

    def hang(self, number: signal.Signals = signal.SIGSTOP) -> None:
        """Let it accept connections and say nothing, until it is sent SIGCONT."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it and all its processes at once, with SIGKILL."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def mlflow_server(backend: str, folder: Path, root: Path | None = None) -> Iterator[MlflowServer]:
    """A running MLflow server; it may be killed and started again meanwhile."""
    server = MlflowServer(backend, folder, root)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Postgres:
    """A PostgreSQL server of one's own, with one user who has a password."""

    pid: int

    def __init__(self, port: int, password: str) -> None:
        self.port, self.user, self.password = port, "mwm", password

    def uri(self, database: str) -> str:
        """The address of a database, with the password in it."""
        return f"postgresql+psycopg2://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def make(self, database: str) -> str:
        """Make a database; its address."""
        self._do(f'create database "{database}"')
        return self.uri(database)

    def answers(self) -> bool:
        """Whether it lets its user in."""
        try:
            self._do("select 1")
        except OperationalError:
            return False
        return True

    def _do(self, statement: str) -> None:
        engine = create_engine(self.uri("postgres"), isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5})
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; skips, with the reason, where its programs or a user to run them are missing."""
    found = {name: _program(name) for name in ("initdb", "postgres")}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True)))
        user = _not_root(folder)
        server = Postgres(free_port(), secrets.token_hex(12))
        secret = folder / "password"
        secret.write_text(server.password)
        secret.chmod(0o644)
        data = folder / "data"
        make = f"{found['initdb']} -D {data} -U {server.user} -A scram-sha-256 --pwfile {secret} -E UTF8 --no-sync"
        subprocess.run([*user, *make.split(), "--locale=C"], cwd=folder, check=True, capture_output=True)
        settings = "-c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
        run = f"{found['postgres']} -D {data} -p {server.port} -k {folder} {settings}"
        process = subprocess.Popen([*user, *run.split()], cwd=folder, start_new_session=True, **QUIET)
        server.pid = process.pid
        stack.callback(_stop, process)
        wait_until(server.answers, process)
        yield server


def _program(name: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    program = str(places[-1]) if places else shutil.which(name)
    if program is None:
        pytest.skip(f"PostgreSQL is not installed: there is no {name}")
    return program


def _not_root(folder: Path) -> list[str]:
    """What goes before a command that root must not run; `folder` is made the other user's."""
    if os.geteuid() != 0:
        return []
    try:
        other = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    os.chown(folder, other.pw_uid, other.pw_gid)
    return ["setpriv", f"--reuid={other.pw_uid}", f"--regid={other.pw_gid}", "--clear-groups"]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
