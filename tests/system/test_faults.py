"""Faults done to real sweeps: whatever a process or a disk does, the end is that of an undisturbed run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mwm.runner.workspace.status import sweep_status
from tests.helpers.driver import Driver, driving, gone, wait_for
from tests.helpers.launching import launched, sweep
from tests.helpers.servers import mlflow_server
from tests.helpers.unharmed import NAME, Undisturbed, assert_unharmed, entry, finished, hittable, prepared, rows, runs
from tests.helpers.watching import Seen, Watch, watching
from tests.system.faults import Blow, Moment, endure

pytestmark = pytest.mark.slow


def appeared(watch: Watch, driver: Driver, wanted: Callable[[Seen], bool], count: int = 1) -> Path:
    """Wait for the `count`-th file of a sort to appear."""
    end = time.monotonic() + 120
    while driver.alive and time.monotonic() < end:
        for seen in watch.until(0.1):
            count -= wanted(seen)
            if count == 0:
                return seen.path
    raise AssertionError(f"the sweep did not get that far: {driver.said()}")


def checkpointed(seen: Seen) -> bool:
    return seen.how == "placed" and seen.path.name == "checkpoint.bin"


def ended(seen: Seen) -> bool:
    return seen.how == "placed" and seen.path.name == "outcome.json"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


HARMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "other networks": ("store/{0:.2}/{0}/model.safetensors", _flip),
    "left in the store": ("store/{0:.2}/{0}/checkpoint.bin", Path.touch),
    "left beside": ("results/faults/tune", Path.mkdir),
    "written again": ("store/{0:.2}/{0}/model.safetensors", Path.touch),
    "other results": ("results/faults/results.csv", _cut),
}


@pytest.mark.parametrize("told", HARMS)
def test_harm_is_seen(whole: Undisturbed, tmp_path: Path, told: str) -> None:
    folder = shutil.copytree(whole.folder, tmp_path / "copy")
    before = finished(folder)
    assert_unharmed(folder, whole, before)
    path, harm = HARMS[told]
    harm(folder / path.format(min(whole.victims)))
    with pytest.raises(AssertionError, match=told):
        assert_unharmed(folder, whole, before)


@pytest.mark.parametrize("delays", [(0.0,), pytest.param((0.0, 0.05), marks=pytest.mark.long)], ids=["one", "two"])
def test_killed_workers_are_replaced(whole: Undisturbed, tmp_path: Path, delays: tuple[float, ...]) -> None:
    folder = prepared(tmp_path, whole)
    with watching(folder) as watch, driving(folder) as driver:
        appeared(watch, driver, checkpointed, 5)
        time.sleep(0.05)
        assert driver.kill_trainers(), "nobody trained in mid-epoch"
        for delay in delays:  # one of them has just ended a trial, and holds no other yet or only just
            appeared(watch, driver, ended)
            time.sleep(delay)
            assert driver.kill_trainers(), "nobody was there between two trials"
        assert driver.wait() == 0, driver.said()
    assert "Traceback" not in driver.said()
    assert_unharmed(folder, whole)


SHORT = (
    Moment("victim", 4, 0.05),
    Moment("checkpoint", 6, power=True),
    Moment("between", 1),
    Moment("mlflow", 15),  # last: MLflow hears of most trials when all have ended, for they take seconds
)


@pytest.mark.long
def test_killed_drivers_do_no_harm(whole: Undisturbed, tmp_path: Path) -> None:
    queue = deque(SHORT)
    told: list[Blow] = []
    blows = endure(prepared(tmp_path, whole), whole, queue, told.append)
    assert [blow.moment for blow in blows] == list(SHORT), "a moment did not come"
    assert told == blows


ONE = [(signal.SIGTERM, "attack")]
TWO = [(signal.SIGTERM, "victim"), (signal.SIGINT, "attack")]


@pytest.mark.parametrize("signals", [ONE, pytest.param(TWO, marks=pytest.mark.long)], ids=["one", "two"])
def test_signals_end_a_sweep_in_good_order(
    whole: Undisturbed, tmp_path: Path, signals: list[tuple[signal.Signals, str]]
) -> None:
    folder, more = prepared(tmp_path, whole), list[str]()
    for number, kind in signals:
        with watching(folder) as watch, driving(folder, *more) as driver:
            appeared(watch, driver, partial(Moment(kind).meets, victims=whole.victims), 3)
            driver.process.send_signal(number)
            assert driver.wait(90) == 128 + number, driver.said()
            gone(driver.trainers())
        assert sweep_status(folder / "results" / NAME).reason == f"stopped by {number.name}"
        statuses = Counter(run.info.status for run in runs(folder))
        assert statuses["RUNNING"] == 0, "a run is left as running"
        assert statuses["KILLED"] >= 1
        more = ["--resume"]
    before = finished(folder)
    assert before, "nothing was finished before the signal"
    assert {row["status"] for row in rows(folder)} == {"done"}
    done = launched(folder, "run", folder / "sweep.yaml", *more)
    assert done.returncode == 0, done.stderr + done.stdout
    assert_unharmed(folder, whole, before)


@pytest.mark.parametrize("power", [False, pytest.param(True, marks=pytest.mark.long)], ids=["driver", "power"])
def test_a_killed_driver_is_followed_by_another_that_detects_damage(
    whole: Undisturbed, tmp_path: Path, power: bool
) -> None:
    folder = prepared(tmp_path, whole)
    with watching(folder) as watch, driving(folder) as driver:
        appeared(watch, driver, ended, 3)
        appeared(watch, driver, checkpointed, 6)
        left = driver.kill(power=power)
    gone(left)
    sealed = sorted(path.parent for path in folder.glob("store/*/*/outcome.json"))
    victims = [path for path in sealed if path.name in whole.victims]
    attacks = [path for path in sealed if path.name not in whole.victims]
    open_ones = sorted(folder.glob("store/*/*/checkpoint.bin"))
    assert victims, "no victim was finished"
    assert attacks, "no attack was finished"
    assert open_ones, "nothing was under way"
    _flip(victims[0] / "model.safetensors")
    _cut(attacks[0] / "model.safetensors")
    third = next(path for path in sealed if path not in (victims[0], attacks[0]))
    _flip(third / "outcome.json")
    for number, path in enumerate(open_ones):
        (_flip, _cut)[number % 2](path)
    done = launched(folder, "run", folder / "sweep.yaml", "--resume")
    assert done.returncode == 0, done.stderr + done.stdout
    assert_unharmed(folder, whole)


@pytest.mark.long
def test_second_driver_is_refused(whole: Undisturbed, tmp_path: Path) -> None:
    folder = prepared(tmp_path, whole)
    with driving(folder) as one, driving(folder) as other:
        wait_for(lambda: not (one.alive and other.alive), one if one.alive else other)
        refused, runner = (one, other) if not one.alive else (other, one)
        assert refused.wait() == 2, refused.said()
        assert refused.said().startswith(f"name: 'faults' is being run by process {runner.process.pid} on ")
        assert refused.said().count("\n") == 1
        assert runner.wait() == 0, runner.said()
    assert_unharmed(folder, whole)


@pytest.fixture
def small_disk(whole: Undisturbed, tmp_path: Path) -> Iterator[Path]:
    """A sweep whose store lies on a disk of 4 MiB."""
    folder = prepared(tmp_path, whole)
    store = folder / "store"
    store.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(store)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(store)], check=True)


def fill(disk: Path) -> Path:
    """Leave not one byte free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def test_full_disk_is_told_and_waited_for(whole: Undisturbed, small_disk: Path) -> None:
    folder = small_disk
    with watching(folder) as watch, driving(folder) as driver:
        appeared(watch, driver, checkpointed, 5)
        filler = fill(folder / "store")
        wait_for(lambda: "No space left on device; again in 2 s" in " ".join(driver.said().split()), driver)
        filler.unlink()
        assert driver.wait() == 0, driver.said()
    assert "Traceback" not in driver.said()
    assert_unharmed(folder, whole)


@pytest.mark.long
def test_hopeless_trials_are_given_up_and_the_rest_goes_on(whole: Undisturbed, tmp_path: Path) -> None:
    def hopeless(tree: dict[str, Any]) -> None:
        hittable(tree)
        tree["victim"]["model"]["width"] = {"grid": [10**6, 16]}  # its second layer alone would take 72 TB

    folder = prepared(tmp_path, whole)
    raising = max(row["digest"] for row in whole.rows if row["kind"] == "attack")
    blocked = entry(folder, raising)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder should be")
    done = launched(folder, "run", sweep(folder, hopeless))
    assert done.returncode == 3, done.stderr + done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    found = {row["digest"]: row for row in rows(folder)}
    known = {row["digest"] for row in whole.rows} - {raising}
    of_others = ("clean_drop", "worst_query_acc", "mean_query_acc", "worst_log10_p")
    for expected in (row for row in whole.rows if row["digest"] in known):
        shared = {key: value for key, value in expected.items() if key not in of_others}
        assert shared.items() <= found[expected["digest"]].items(), "a hopeless trial harmed another"
    assert "memory" in next(row["error"] for row in found.values() if row["kind"] == "victim" and row["error"])
    assert blocked.name in found[raising]["error"]
    expected_counts = {("victim", "done"): 2, ("victim", "failed"): 2, ("attack", "done"): 3, ("attack", "failed"): 1}
    counts = Counter((row["kind"], row["status"]) for row in found.values())
    assert counts == expected_counts | {("attack", "skipped"): 4}
    statuses = Counter(run.info.status for run in runs(folder))
    assert statuses == {"FINISHED": 5, "FAILED": 4, "KILLED": 4}


def test_a_server_that_is_away_for_the_whole_end_is_synced_later(whole: Undisturbed, tmp_path: Path) -> None:
    folder = prepared(tmp_path, whole)
    with mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", folder) as server:
        where = ("--tracking-uri", server.uri)
        with watching(folder) as watch, driving(folder, *where) as driver:
            appeared(watch, driver, ended)
            server.kill()
            driver.wait()
        assert "Traceback" not in driver.said()
        assert rows(folder) == whole.rows, "results were lost with the server"
        before = finished(folder)
        assert Counter(run.info.status for run in runs(folder))["RUNNING"], "the server was not away"
        server.start()
        done = launched(folder, "sync", Path("faults"), *where)
        assert done.returncode == 0, done.stderr + done.stdout
        again = launched(folder, "sync", Path("faults"), *where)
        assert again.returncode == 0, again.stderr + again.stdout
    assert_unharmed(folder, whole, before)
