"""A sweep and whoever watches it: a terminal that closes, a reader that goes, Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import termios
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mwm.runner.workspace.journal import JOURNAL
from tests.helpers.driver import family, gone
from tests.helpers.launching import command, environment, launched, sweep
from tests.system.test_launch import mlflow_runs

pytestmark = pytest.mark.slow


def _one_victim(tree: dict[str, Any]) -> None:
    tree["victim"]["scheme"] = {"kind": "none"}
    tree["attacks"] = []


def _endless(tree: dict[str, Any]) -> None:
    _one_victim(tree)
    tree["victim"]["recipe"]["epochs"] = 100_000


@pytest.fixture
def home(tmp_path: Path, mlflow_db: Path) -> Path:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    return tmp_path


def events(folder: Path) -> list[dict[str, Any]]:
    """What the journal of the sweep tells so far."""
    path = folder / "results" / "small" / JOURNAL
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(folder: Path, event: str, process: subprocess.Popen[Any]) -> dict[str, Any]:
    """An event of the journal, as soon as it is there."""
    end = time.monotonic() + 120
    while not (found := [one for one in events(folder) if one["event"] == event]):
        assert process.poll() is None
        assert time.monotonic() < end, f"no {event}"
        time.sleep(0.05)
    return found[0]


def owned(terminal: int) -> None:
    """Let this process, which begins a session, have a terminal."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_a_sweep_outlives_its_terminal(home: Path) -> None:
    ours, theirs = pty.openpty()
    words = command("run", sweep(home, _one_victim))
    ends: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    ends["preexec_fn"] = partial(owned, theirs)
    process = subprocess.Popen(words, cwd=home, env=environment(), **ends)
    os.close(theirs)
    begin = wait_for(home, "begin", process)
    os.close(ours)  # the system hangs up: SIGHUP comes, and every write fails
    os.kill(process.pid, signal.SIGHUP)
    assert "running, process" in (said := launched(home, "status", "small").stdout) or "finished" in said
    assert process.wait(200) == 0
    assert (begin["pid"], events(home)[-1]["status"]) == (process.pid, "FINISHED")
    assert Counter(run.info.status for run in mlflow_runs(home)) == {"FINISHED": 2}


@pytest.mark.long
def test_a_sweep_outlives_its_reader(home: Path) -> None:
    reader, writer = os.pipe()
    words = command("run", sweep(home, _one_victim))
    process = subprocess.Popen(words, cwd=home, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "stdout: nobody reads it any more; nothing more is shown\n")
    assert events(home)[-1]["status"] == "FINISHED"


def test_ctrl_c_tells_what_was_saved_and_how_to_go_on(home: Path) -> None:
    words = command("run", sweep(home, _endless))
    process = subprocess.Popen(words, cwd=home, env=environment(), stdout=subprocess.PIPE, text=True)
    wait_for(home, "epochs", process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "no trial has ended; results in " in out
    assert "nothing was run" not in out
    (line,) = (line for line in out.splitlines() if line.startswith("stopped; "))
    epochs, _, rest = line.removeprefix("stopped; ").partition(" epochs of 1 trial under way are saved; go on by: ")
    assert int(epochs) > 0
    assert rest.split()[1:] == words[1:]
    gone(family(home))
