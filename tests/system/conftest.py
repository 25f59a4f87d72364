"""A Ray that many sweeps join, and the sweep that is hit by faults as it ends without one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.beside import Watched, watch
from tests.helpers.launching import command, environment, sweep
from tests.helpers.servers import MlflowServer, free_port, mlflow_server, wait_until
from tests.helpers.unharmed import Undisturbed, undisturbed

Join = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def ray_head(log: Path, token: dict[str, str]) -> Iterator[str]:
    """A head node with two CPUs that asks for a token; its address."""
    port = free_port()
    options = f"--head --block --port {port} --num-cpus 2 --include-dashboard=false --disable-usage-stats"
    ray = str(Path(sys.executable).with_name("ray"))
    with log.open("wb") as out:
        process = subprocess.Popen([ray, "start", *options.split()], env=token, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "Ray runtime started" in log.read_text(), process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a cluster, and the environment that holds its token."""
    token = environment() | {"RAY_AUTH_MODE": "token"}
    with ray_head(tmp_path_factory.mktemp("ray") / "log", token) as address:
        yield address, token


@pytest.fixture(scope="session")
def join(head: tuple[str, dict[str, str]]) -> Join:
    """Run the command in a folder as a user would who joins a cluster that is there already."""
    address, token = head

    def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
        asked = command("run", *words, "--address", address)
        return subprocess.run(asked, cwd=folder, env=token, capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Undisturbed:
    """What the sweep that is hit by faults leaves when it is not."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), mlflow_db)


@pytest.fixture
def folder(tmp_path: Path, mlflow_db: Path) -> Path:
    """An empty folder with an empty database of MLflow and the small sweep in it."""
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    sweep(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def started(mlflow_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server over a database on disk, one for each file of tests."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    with mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", folder) as running:
        yield running


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Watched:
    """A sweep that has ended, and what was seen of it while it ran."""
    return watch(tmp_path_factory.mktemp("watched"), mlflow_db)
