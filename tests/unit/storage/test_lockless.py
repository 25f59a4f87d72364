"""Locks where a file system has those of NFSv4, or none: real processes, and a C library that answers for the drive."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mwm.storage.lock import SILENT_SECONDS
from tests.helpers.launching import ROOT, command, environment
from tests.helpers.lockless import NFS4, lockless
from tests.unit.runner.workspace.test_status import begun

pytestmark = pytest.mark.slow
NUMBERS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]

ACT = """
import sys
from contextlib import ExitStack
from pathlib import Path
from mwm.runner.workspace.lock import cleanup_lock, holder, sweep_lock
root, act = Path(sys.argv[1]), sys.argv[2]
folder = root / "results" / "small"
try:
    if act == "look":
        print(holder(folder))
    else:
        with ExitStack() as held:
            if act == "clean":
                print(held.enter_context(cleanup_lock(root / "results", root / "store")), flush=True)
            else:
                print(held.enter_context(sweep_lock(root / "results" / act, store=root / "store")), flush=True)
            sys.stdin.read()
except ValueError as error:
    print(error)
"""


class Place:
    """A storage on such a drive, and what a process says that works there."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self.environment = root, environment

    @contextmanager
    def process(self, act: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A process that holds what it got, and the line that it said."""
        with subprocess.Popen(
            [sys.executable, "-c", ACT, self.root, act],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.environment,
        ) as process:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
            process.kill()

    def says(self, act: str) -> str:
        with self.process(act) as (_, said):
            return said


@pytest.fixture(params=[NFS4, errno.ENOLCK])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    root = tmp_path / "drive"
    begun(root / "results" / "small")
    for name in ("results/other", "store"):
        (root / name).mkdir()
    return Place(root, environment() | lockless(root, request.param, tmp_path))


def test_one_driver_many_sweeps_and_no_cleaner_beside_them(place: Place) -> None:
    with place.process("small") as (driver, said):
        assert said == "None"
        assert f"'small' is being run by process {driver.pid} on " in place.says("small")
        assert place.says("other") == "None"
        assert place.says("clean") == "False"
        assert place.says("look").startswith(f"process {driver.pid} on ")
        driver.kill()
        driver.wait()
        assert place.says("look") == "None"
        assert place.says("small") == "None"
    with place.process("clean") as (_, said):
        assert said == "True"
        assert "is being cleaned; try again in a moment" in place.says("small")


@pytest.mark.parametrize("place", [errno.ENOLCK], indirect=True)
def test_a_claim_of_another_machine_holds_while_it_is_renewed(place: Place) -> None:
    claim = place.root / "results" / "small" / "..lock.alone~elsewhere.1~7~00000000"
    claim.touch()
    assert "'small' is being run" in place.says("small")
    os.utime(claim, (time.time() - SILENT_SECONDS - 5,) * 2)
    assert place.says("small") == "None"


@pytest.mark.parametrize("number", NUMBERS)
def test_nothing_is_left(number: int, tmp_path: Path) -> None:
    place = Place(tmp_path / "drive", environment() | lockless(tmp_path / "drive", number, tmp_path))
    (place.root / "results" / "small").mkdir(parents=True)
    with place.process("small") as (driver, said):
        assert said == "None"
        assert driver.stdin is not None
        driver.stdin.close()
        assert driver.wait() == 0
    assert {path.name for path in place.root.rglob(".*")} == {".lock"}


def test_readers_need_no_lock(place: Place) -> None:
    with place.process("small"):
        for words in (["list"], ["status", "small"]):
            asked = command(*words, "--storage", place.root)
            done = subprocess.run(asked, env=place.environment, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), words
            assert "running" in done.stdout
