"""The name of a cluster and the folder of Ray's sockets: a wrong one is refused before Ray is asked."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mwm.runner.execution.joining import SESSION, SOCKET_PATH, cluster_address, require_short_paths

WRONG = {
    "ray://127.0.0.1:10001": "that is Ray Client, by which no sweep runs; give HOST:PORT",
    "http://127.0.0.1:8265": "that is the dashboard of Ray, to which `ray job` submits; give HOST:PORT",
    "https://head.example": "that is the dashboard of Ray, to which `ray job` submits; give HOST:PORT",
    "tcp://127.0.0.1:6379": "give HOST:PORT as `ray start --head` shows it, usually HOST:6379",
    **dict.fromkeys(
        ("127.0.0.1", "head:", ":6379", "head:port", "head:0", "head:99999", "head:6379/", "a b", "::1"),
        "give HOST:PORT",
    ),
}


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("address", WRONG)
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--address") as caught:
        cluster_address(address)
    assert str(caught.value).startswith(f"--address: {address} is not allowed: {WRONG[address]}")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match="RAY_ADDRESS") as caught:
        cluster_address(None)
    assert str(caught.value).startswith(f"RAY_ADDRESS: {address} is not allowed: ")


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(ValueError, match="Ray Client") as caught:
        cluster_address("ray://me:secret@head:10001")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["head:6379", "127.0.0.1:6379", "[::1]:6379", "auto"])
def test_an_address_names_a_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_address(address) == address
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address(None) == cluster_address("") == address
    assert cluster_address("local") is None


def test_without_an_address_a_cluster_is_started_here() -> None:
    assert cluster_address(None) is None


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_short_paths()
    most = SOCKET_PATH - len(SESSION)
    monkeypatch.setenv(name, "/" + "x" * (most - 1))
    require_short_paths()
    monkeypatch.setenv(name, "/" + "x" * most)
    with pytest.raises(ValueError, match="too long") as caught:
        require_short_paths()
    assert str(caught.value).startswith(f"{name}: /xxx")
    assert "set RAY_TMPDIR to a shorter folder, such as /tmp" in str(caught.value)


def test_the_system_knows_the_same_bound(tmp_path: Path) -> None:
    code = f"import socket; socket.socket(socket.AF_UNIX).bind('s' * {SOCKET_PATH})"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as one:
        one.bind("s" * (SOCKET_PATH + 1))
