"""The driver of a sweep as a process of its own, and all that it starts."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.helpers.launching import command, environment


class Driver:
    """The driver of a sweep, as a process with all that it starts."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder, self.began = folder, time.monotonic()
        self.log = folder / f"log.{len(list(folder.glob('log.*')))}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command("run", folder / "sweep.yaml", *more),
                cwd=folder,
                env=environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float = 300) -> int:
        """Wait for its own end: the exit status."""
        return self.process.wait(seconds)

    def said(self) -> str:
        return self.log.read_text()

    def trainers(self) -> list[psutil.Process]:
        """Its workers that hold a trial, or wait for the next one."""
        return [one for one in family(self.folder) if "ImplicitFunc" in line(one)]

    def kill_trainers(self) -> int:
        """Kill every worker that holds a trial or waits for one: how many there were."""
        found = self.trainers()
        for one in found:
            _kill(one)
        return len(found)

    def kill(self, *, power: bool = False) -> list[psutil.Process]:
        """Kill the driver, or all its processes at once as a power cut would; the result are the workers left behind.

        Ray's two agents, which hold nothing, stay for a minute and are not among them.
        """
        self.process.kill()
        orphans = [one for one in family(self.folder) if one.pid != self.process.pid and "Agent" not in line(one)]
        for one in orphans if power else ():
            _kill(one)
        self.process.wait()
        return orphans


@contextmanager
def driving(folder: Path, *more: str) -> Iterator[Driver]:
    """Start a driver; whatever becomes of the test, none of its processes stays."""
    driver = Driver(folder, *more)
    try:
        yield driver
    finally:
        if driver.alive:
            driver.process.kill()
            driver.process.wait()
        for one in family(folder):
            _kill(one)


def family(folder: Path) -> list[psutil.Process]:
    """Every process at home in a folder: a driver, and Ray's own, which change their names but never move."""
    return [one for one in psutil.process_iter() if _home(one) == str(folder.resolve())]


def _home(process: psutil.Process) -> str:
    try:
        return str(process.cwd())
    except psutil.Error:
        return ""


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.Error:
        return


def wait_for(condition: Callable[[], object], driver: Driver, seconds: float = 120) -> None:
    """Wait until something holds while a sweep runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert driver.alive, f"the sweep ended too early: {driver.said()}"
        assert time.monotonic() < end, f"the sweep did not get that far: {driver.said()}"
        time.sleep(0.02)


def living(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that waits to be buried does not."""
    return [one for one in processes if _state(one) not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)]


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status() if process.is_running() else psutil.STATUS_DEAD)
    except psutil.Error:
        return str(psutil.STATUS_DEAD)


def gone(processes: Sequence[psutil.Process], seconds: float = 60) -> None:
    """Wait for the end of processes."""
    end = time.monotonic() + seconds
    while left := living(processes):
        assert time.monotonic() < end, f"still alive: {[line(one) for one in left]}"
        time.sleep(0.05)
