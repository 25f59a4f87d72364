"""Submitted jobs: a real Ray head with its dashboard and a token, and `ray job` against it."""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch import main
from tests.helpers.launching import ROOT, environment, sweep

RAY = str(Path(sys.executable).with_name("ray"))
PORTS = (
    "port",
    "ray-client-server-port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)


@dataclass(frozen=True)
class Head:
    """A Ray head node of this test's own."""

    process: subprocess.Popen[bytes]
    address: str
    environment: dict[str, str]

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Say `ray WORDS` as a user of this cluster would."""
        asked = [RAY, *words]
        return subprocess.run(
            asked, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=400
        )

    def submit(self, path: Path, storage: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Submit the run of a sweep, as deploy/job.yaml says."""
        sent = ("--runtime-env", "deploy/job.yaml", "--working-dir", ".", *options, "--", "python", "launch.py")
        asked = ("run", str(path), "--storage", str(storage), "--tracking-uri", f"sqlite:///{storage / 'mlflow.db'}")
        return self.ray("job", "submit", "--address", self.address, *sent, *asked)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, each another."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait until it holds, and say what did not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a head and every process it has started."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait(20)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head with two CPUs that asks for a token."""
    numbers = free_ports(len(PORTS))
    ports = [f"--{name}={number}" for name, number in zip(PORTS, numbers, strict=True)]
    with tempfile.TemporaryDirectory(prefix="mwm") as name:  # pytest's own folders are too long for Ray's sockets
        folder = Path(name)
        (folder / "token").write_text("0123456789abcdef" * 4)
        own = environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        own["PATH"] = f"{Path(RAY).parent}:{own['PATH']}"
        fixed = ["--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        asked = [RAY, "start", *fixed, "--include-dashboard=true", "--dashboard-host=127.0.0.1", *ports]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*asked, f"--temp-dir={folder}"], env=own, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            found = Head(process, f"http://127.0.0.1:{numbers[PORTS.index('dashboard-port')]}", own)
            wait_for(lambda: found.ray("job", "list", "--address", found.address).returncode == 0, "no dashboard")
            yield found
        finally:
            end(process)


def rows(storage: Path) -> list[dict[str, str]]:
    with (storage / "results" / "small" / "results.csv").open() as file:
        return list(csv.DictReader(file))


def finished(storage: Path) -> dict[Path, int]:
    """When each finished trial was written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in storage.glob("store/*/*/outcome.json")}


def statuses(storage: Path) -> Counter[str]:
    """MLflow runs by status."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None, "no experiment was made"
    return Counter(run.info.status for run in client.search_runs([experiment.experiment_id], max_results=1000))


def longer(tree: dict[str, Any]) -> None:
    tree["victim"]["recipe"]["epochs"] = 40


@pytest.mark.slow
@pytest.mark.long
def test_a_stopped_job_goes_on_to_its_end(head: Head, tmp_path: Path) -> None:
    path = sweep(tmp_path, longer)
    begun = head.submit(path, tmp_path, "--no-wait", "--submission-id", "first")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    wait_for(lambda: bool(finished(tmp_path)), "no trial was finished", 300)
    stopped = head.ray("job", "stop", "--address", head.address, "first")
    before = finished(tmp_path)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "was stopped" in stopped.stdout
    assert "; results in" in head.ray("job", "logs", "--address", head.address, "first").stdout, "the driver was killed"
    assert 1 <= len(before) < 6, "the sweep was over before it was stopped"
    ended = statuses(tmp_path)
    assert ended["RUNNING"] == 0
    assert ended["KILLED"] >= 1
    done = head.submit(path, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert {path: finished(tmp_path)[path] for path in before} == before, "a finished trial was trained again"
    assert Counter(row["status"] for row in rows(tmp_path)) == {"done": 6}
    assert statuses(tmp_path) == {"FINISHED": 7}


def test_a_job_may_not_write_where_ray_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for options, option in ((["--storage", "."], "--storage"), (["--storage", str(tmp_path.parent)], "--tracking-uri")):
        assert main(["run", str(path), *options]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"{option}: ")
        assert "is deleted with this Ray job" in said
        assert len(said.splitlines()) == 1
    assert not (tmp_path / "results").exists()
