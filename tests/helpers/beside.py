"""A real sweep that is looked at while it runs, and whose files are used after it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import launch
from mwm.runner.workspace.journal import JOURNAL
from tests.helpers.launching import command, environment, sweep

EPOCHS = 300
"""Of the victim: seconds, so that it is seen under way more than once."""


@dataclass
class Watched:
    """A sweep that ran to its end, and what `status` and `list` said meanwhile."""

    folder: Path
    seen: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    listed: str = ""
    refused: list[subprocess.CompletedProcess[str]] = field(default_factory=list)


def _hopeless(tree: dict[str, Any]) -> None:
    tree["victim"]["recipe"] |= {"lr": {"grid": [0.05, 1e30]}, "epochs": EPOCHS}
    tree["victim"]["scheme"] = {"kind": "none"}
    tree["attacks"][0]["recipe"] = {"epochs": 2, "batch_size": 128, "lr": 0.05, "momentum": 0.9}


def said(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, which is another one than the driver's and has imported everything already."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        status = launch.main(words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def asked(folder: Path, *words: str) -> str:
    done = said(folder, *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def watch(folder: Path, mlflow_db: Path) -> Watched:
    """One victim is trained and attacked, the other diverges, so that its attacks are skipped."""
    found = Watched(folder)
    shutil.copy(mlflow_db, folder / "mlflow.db")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command("run", sweep(folder, _hopeless)), cwd=folder, env=environment(), stdout=log, stderr=log
        )
        try:
            while process.poll() is None:
                if (folder / "results" / "small" / JOURNAL).exists():
                    found.seen.append(json.loads(asked(folder, "status", "small", "--json")))
                    if found.seen[-1]["running"] and not found.text:
                        found.text, found.listed = asked(folder, "status", "small"), asked(folder, "list")
                        found.refused = [said(folder, "clean"), said(folder, "sync", "small")]
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    assert process.returncode == 3, (folder / "log").read_text()
    return found


def copied(watched: Watched, folder: Path) -> Path:
    """The storage of the sweep, at another place."""
    for name in ("results", "store"):
        shutil.copytree(watched.folder / name, folder / name)
    return folder
