"""Locks: one driver for a sweep, no cleaner beside it, and whoever only looks is in nobody's way."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from mwm.runner.workspace import lock
from mwm.runner.workspace.lock import LOCK, Holder, cleanup_lock, holder, remove_lock, sweep_lock

HOLD = """
import sys
from pathlib import Path
from typing import IO
from mwm.runner.workspace.lock import sweep_lock
with sweep_lock(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "results" / "small"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def other(folder: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the sweep, or syncs it."""
    verb = getattr(request, "param", "run")
    command = [sys.executable, "-c", HOLD, str(folder), verb]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is refused is refused soon."""
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.05)


def test_nobody_holds_a_new_sweep(folder: Path) -> None:
    assert holder(folder) is None
    assert list(folder.iterdir()) == []
    with sweep_lock(folder):
        assert holder(folder) == Holder("run", os.getpid(), socket.gethostname())
    assert holder(folder) is None


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("other", "doing"), [("run", "run"), ("sync", "synced")], indirect=["other"])
def test_a_second_process_is_refused(folder: Path, other: subprocess.Popen[str], doing: str) -> None:
    who = f"process {other.pid} on {re.escape(socket.gethostname())}"
    with pytest.raises(ValueError, match=rf"^name: 'small' is being {doing} by {who}; choose a new one by --name$"):
        sweep_lock(folder).__enter__()
    with pytest.raises(ValueError, match=rf"^name: 'small' is being {doing} by {who}; sync it when that has ended$"):
        sweep_lock(folder, "sync").__enter__()
    with cleanup_lock(folder.parent) as free:
        assert not free
    found = holder(folder)
    assert found is not None
    assert found.pid == other.pid, "a refusal has overwritten what the lock says"


@pytest.mark.usefixtures("hurried")
def test_a_lock_goes_with_its_process(folder: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert holder(folder) is None
    with sweep_lock(folder), cleanup_lock(folder.parent) as free:
        assert not free


@pytest.mark.usefixtures("hurried")
def test_sweeps_run_side_by_side_and_no_cleaner_beside_them(folder: Path, other: subprocess.Popen[str]) -> None:
    second = folder.with_name("second")
    second.mkdir()
    with sweep_lock(second), cleanup_lock(folder.parent) as free:
        assert not free


@pytest.mark.usefixtures("hurried")
def test_no_sweep_begins_while_a_cleaner_is_there(folder: Path) -> None:
    with ExitStack() as stack:
        assert stack.enter_context(cleanup_lock(folder.parent))
        with pytest.raises(ValueError, match=r"^--storage: .* is being cleaned; try again in a moment$"):
            sweep_lock(folder).__enter__()
    with sweep_lock(folder):
        assert holder(folder) is not None


def test_whoever_looks_is_in_nobodys_way(folder: Path) -> None:
    (folder / LOCK).touch()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.001):  # a shell looks once; without a pause two of four would always be there
            holder(folder)

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            with sweep_lock(folder):
                pass
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_a_folder_that_nobody_may_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--storage: .*nowhere cannot be written \(No such file or directory\)$"):
        cleanup_lock(tmp_path / "nowhere").__enter__()


def test_a_lock_is_forgotten_unless_it_is_held(folder: Path) -> None:
    with sweep_lock(folder):
        remove_lock(folder)
        assert (folder / LOCK).exists()
    remove_lock(folder)
    assert not (folder / LOCK).exists()
    remove_lock(folder)


def test_a_lock_that_was_taken_away_keeps_nobody_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = fcntl.flock

    def late(lock: IO[str], kind: int) -> None:
        """Another process is quicker, is refused, and tidies up."""
        if Path(lock.name).parent == folder:
            (folder / LOCK).unlink(missing_ok=True)
        locked(lock, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ValueError, match=r"^name: 'small' is being run"), sweep_lock(folder):
        pytest.fail("two processes could hold it")
