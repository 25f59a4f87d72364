"""Clusters that cannot be joined, and cores that a sweep may use: what is wrong is one line."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from tests.helpers.http import Server
from tests.helpers.launching import ROOT, command, environment, sweep
from tests.helpers.servers import free_port

pytestmark = pytest.mark.slow

OLDER = "import sys, ray; ray.__version__ = '2.1.0'; import launch; sys.exit(launch.main(sys.argv[1:]))"


def told(command: list[str], folder: Path, **environ: str) -> tuple[int, list[str]]:
    """The exit status of a command, and all lines that it printed."""
    hidden = {"cwd": folder, "env": environment() | {"PYTHONPATH": str(ROOT)} | environ}
    done = subprocess.run(command, **hidden, capture_output=True, text=True, check=False, timeout=300)  # type: ignore[call-overload]
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_a_service_that_is_no_ray_is_told_in_one_line(tmp_path: Path) -> None:
    with Server([]) as server:
        address = server.uri.removeprefix("http://")
        asked = command("run", sweep(tmp_path), "--address", address)
        status, (line,) = told(asked, tmp_path)
    assert status == 2
    assert line.startswith(f"--address: {address} cannot be joined: no head of a Ray cluster answers there; give HOST")


def test_a_closed_port_of_the_environment_is_told_in_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    status, lines = told(command("run", sweep(tmp_path)), tmp_path, RAY_ADDRESS=address)
    assert (status, lines) == (2, [f"RAY_ADDRESS: {address} cannot be joined: Connection refused"])


def test_a_missing_token_is_told_in_one_line(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    asked = command("run", sweep(tmp_path), "--address", head[0])
    status, (line,) = told(asked, tmp_path, RAY_AUTH_MODE="disabled")
    assert status == 2
    assert line.startswith(f"--address: {head[0]} cannot be joined: it asks for a token: set RAY_AUTH_MODE=token")


def test_another_version_is_told_with_both(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    asked = [sys.executable, "-c", OLDER, "run", str(sweep(tmp_path)), "--address", head[0]]
    status, (line,) = told(asked, tmp_path, RAY_AUTH_MODE="token")
    assert status == 2
    python = platform.python_version()
    versions = f"it runs Ray {ray.__version__} and Python {python}, and this command Ray 2.1.0 and Python {python}"
    assert line == f"--address: {head[0]} cannot be joined: {versions}: both must be the same"


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_a_sweep_uses_the_cores_that_it_may(folder: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))[:1]
    asked = command("run", folder / "sweep.yaml", "--set", f"resources.victim.cpus={len(cores) + 1}")
    status, lines = told(["taskset", "-c", str(cores[0]), *asked], folder)
    assert status == 2
    assert lines == ["resources.victim.cpus: 2 is not allowed: the largest node has 1"]
