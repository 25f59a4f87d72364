"""Locks that go with the process which holds them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from mwm.storage.lock import lock_file

HOLD = """
import sys, time
from mwm.storage.lock import lock_file
file = open(sys.argv[1], "a")
assert lock_file(file, shared=sys.argv[2] == "shared")
print("held", flush=True)
time.sleep(60)
"""


def held(path: Path, kind: str) -> subprocess.Popen[str]:
    """A process that holds a lock."""
    command = [sys.executable, "-c", HOLD, str(path), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("kind", "shared"), [("alone", True), ("alone", False), ("shared", False), ("shared", True)])
def test_a_lock_keeps_others_off_until_its_process_is_dead(kind: str, shared: bool, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path, kind) as process, path.open("a") as file:
        assert lock_file(file, shared=shared) == (kind == "shared" and shared)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock_file(file)


def test_a_lock_is_waited_for_as_long_as_there_is_patience(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as one, (tmp_path / "lock").open("a") as other:
        assert lock_file(one)
        began = time.monotonic()
        assert not lock_file(other, patience=0.2)
        assert 0.2 <= time.monotonic() - began < 5


def test_a_file_that_was_taken_away_gives_no_lock(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as file:
        (tmp_path / "lock").unlink()
        assert not lock_file(file)


def test_where_nothing_can_be_locked_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: IO[str], kind: int) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "lock").open("a") as file, pytest.raises(OSError, match=os.strerror(38)):
        lock_file(file)
