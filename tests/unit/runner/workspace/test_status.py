"""What lies in a storage folder: how sweeps stand, and that what any of them names is never garbage."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.runner.workspace.garbage import garbage, referenced_digests
from mwm.runner.workspace.heartbeat import PULSE
from mwm.runner.workspace.journal import JOURNAL, SWEEP_FILE, Journal
from mwm.runner.workspace.lock import LOCK, sweep_lock
from mwm.runner.workspace.status import find_sweep, list_sweeps, sweep_status
from mwm.storage.filesystem import write_atomic
from mwm.storage.store import CHECKPOINT, OUTCOME, Store

VICTIM: dict[str, Any] = {"victim": {"seed": 0}, "attack": None}
THEFT: dict[str, Any] = {"victim": {"seed": 0}, "attack": {"kind": "extraction"}}
TOTALS = {"victim": 2, "attack": 4}
HOUR = 3600.0


def silent(text: str) -> None:
    pytest.fail(f"the journal warned: {text}")


def outcome(digest: str, status: str = "done", **more: Any) -> dict[str, Any]:
    return {"status": status, "error": "", "digest": digest, "victim_digest": "v0", **more}


def begun(folder: Path) -> Journal:
    """A sweep with a victim that is done, one that failed, an attack that is done and one under way."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder, silent)
    journal.begin(totals=TOTALS)
    for name in ("v0", "v1"):
        journal.start(name, "victim", f"victim {name}")
    journal.finish(VICTIM, outcome("v0", query_acc=1.0), "victim v0")
    journal.finish(VICTIM, outcome("v1", "failed", error="it diverged"), "victim v1")
    for name in ("a2", "a3"):
        journal.finish(THEFT, outcome(name, "skipped"), f"attack {name}")
    for name in ("a0", "a1"):
        journal.start(name, "attack", f"attack {name}")
    journal.finish(THEFT, outcome("a0", query_acc=0.5, clean_acc=0.9, log10_p=-3.0), "attack a0")
    return journal


def say(folder: Path, **said: Any) -> None:
    """What a driver elsewhere says."""
    (folder / PULSE).write_text(json.dumps({"at": time.time(), "pid": 7, "host": "elsewhere", **said}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "small"


def test_a_running_sweep(folder: Path) -> None:
    begun(folder)
    say(folder, totals=TOTALS | {"victim": 3}, left=60.0, running={"a1": {"epoch": 4, "epochs": 9}})
    with sweep_lock(folder):
        now = sweep_status(folder)
    assert (now.state, now.pid, now.sessions) == ("running", os.getpid(), 1)
    assert now.counts["victims"] == {
        **{"done": 1, "failed": 1, "skipped": 0, "stopped": 0},
        **{"running": 0, "waiting": 1, "total": 3},
    }
    assert now.counts["attacks"] == {
        **{"done": 1, "failed": 0, "skipped": 2, "stopped": 0},
        **{"running": 1, "waiting": 0, "total": 4},
    }
    (trial,) = now.running
    age = trial.pop("age")
    assert trial == {"digest": "a1", "kind": "attack", "label": "attack a1", "epoch": 4, "epochs": 9}
    assert 0 <= age < 60
    assert now.failures == [{"digest": "v1", "kind": "victim", "label": "victim v1", "error": "it diverged"}]
    assert now.best is not None
    assert (now.best["label"], now.best["query_acc"]) == ("attack a0", 0.5), "a victim is no survivor"
    assert now.left is not None
    assert 0 < now.left <= 60
    assert now.results == str(folder / "results.csv")


def test_a_killed_sweep_is_interrupted(folder: Path) -> None:
    begun(folder)
    now = sweep_status(folder)
    assert (now.state, now.running, now.left) == ("interrupted", [], None)
    assert now.counts["attacks"]["waiting"] == 1
    assert now.failures, "what failed before the kill is told"


@pytest.mark.parametrize(
    ("status", "state"), [("FINISHED", "finished"), ("FAILED", "failed"), ("KILLED", "interrupted")]
)
def test_an_ended_sweep(folder: Path, status: str, state: str) -> None:
    begun(folder).end(status, totals=TOTALS)
    say(folder)
    assert sweep_status(folder).state == state, "the end counts, whatever the driver said before"
    with sweep_lock(folder):
        assert sweep_status(folder).state == "running", "a driver that is about to begin, or to end"
    with sweep_lock(folder, "sync"):
        assert sweep_status(folder).state == state


@pytest.mark.parametrize(("age", "state"), [(1.0, "running"), (-20.0, "running"), (600.0, "interrupted")])
def test_a_driver_elsewhere_is_known_by_its_pulse(folder: Path, age: float, state: str) -> None:
    begun(folder)
    say(folder, at=time.time() - age)
    assert sweep_status(folder).state == state


def test_a_pulse_of_this_machine_without_its_lock_is_dead(folder: Path) -> None:
    begun(folder)
    say(folder, host=os.uname().nodename)
    assert sweep_status(folder).state == "interrupted"


def test_a_new_session_tries_again_what_failed(folder: Path) -> None:
    begun(folder).end("FAILED", totals=TOTALS)
    journal = Journal(folder, silent)
    journal.begin(totals=TOTALS)
    journal.start("v1", "victim", "victim v1")
    with sweep_lock(folder):
        now = sweep_status(folder)
    assert now.sessions == 2
    assert now.failures == []
    assert [now.counts["victims"][status] for status in ("done", "failed", "running", "waiting")] == [1, 0, 1, 0]
    assert [now.counts["attacks"][status] for status in ("done", "skipped", "waiting")] == [1, 0, 3]


def test_a_sweep_that_is_about_to_begin(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / SWEEP_FILE).write_text("{}")
    now = sweep_status(folder)
    assert (now.state, now.began, now.elapsed, now.best) == ("interrupted", None, None, None)
    assert now.counts["victims"]["total"] is None
    with sweep_lock(folder):
        assert sweep_status(folder).state == "running"


def test_sweeps_are_found_by_name(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^NAME: there is no sweep 'small' in .*results; there are none$"):
        find_sweep(tmp_path, "small")
    begun(folder)
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / SWEEP_FILE).write_text("{}")
    (folder.parent / "no sweep").mkdir()
    assert [path.name for path in list_sweeps(tmp_path)] == ["other", "small"]
    assert find_sweep(tmp_path, "small") == folder
    for name in ("smal", "../small", "", "no sweep"):
        with pytest.raises(ValueError, match=r"; there are other, small$"):
            find_sweep(tmp_path, name)


def test_nothing_is_written_by_looking(tmp_path: Path, folder: Path) -> None:
    begun(folder)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    sweep_status(folder)
    referenced_digests(tmp_path)
    list(garbage(tmp_path, Store(tmp_path / "store"), 0))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


NAMES = [f"{number:016x}" for number in range(0xABCDEF0123450000, 0xABCDEF0123450008)]
AGES = (1.0, 30.0)


def lay(store: Store, name: str, finished: bool, left: list[str], age: float) -> None:
    """Put an entry into a store; `left` names what else lies there, everything is `age` hours old."""
    files = store.folder(name)
    if finished:
        store.commit(name, {"status": "done", "digest": name}, [])
    for one in left:
        write_atomic(files / one, "half a file")
    for path in (*files.glob("*"), files):
        os.utime(path, (time.time() - age * HOUR,) * 2)


ENTRIES = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
        st.booleans(), st.lists(st.sampled_from([CHECKPOINT, ".half"]), unique=True, min_size=1), st.sampled_from(AGES)
    ),
)
TRIALS = st.dictionaries(
    st.sampled_from(NAMES), st.tuples(st.sampled_from(["start", "finish", "row", "torn"]), st.sampled_from(NAMES))
)


def refer(folder: Path, trials: dict[str, tuple[str, str]]) -> set[str]:
    """Let a sweep refer to trials and their victims in one way or another; the result are all it names."""
    folder.mkdir(parents=True)
    journal = Journal(folder, silent)
    journal.begin()
    torn = ""
    for name, (way, victim) in trials.items():
        told = outcome(name) | {"victim_digest": victim}
        if way == "start":
            journal.start(name, "victim", "a victim")
        elif way == "finish":
            journal.finish(THEFT, told, "an attack")
        elif way == "row":
            write_atomic(folder / "results.csv", f"digest,victim_digest\n{name},{victim}\n")
        else:
            torn = json.dumps({"at": 1.0, "event": "finish", "outcome": told})[:-1]
    with (folder / JOURNAL).open("a") as file:
        file.write(torn)
    rows = [name for name, (way, _) in trials.items() if way == "row"]
    cut = [name for name, (way, _) in trials.items() if way == "torn"]
    lost = {*rows[:-1], *cut[:-1]}  # one table and one torn line hold one trial each
    return {
        digest
        for name, (way, victim) in trials.items()
        if name not in lost
        for digest in ([name] if way == "start" else [name, victim])
    }


@settings(max_examples=40, deadline=None)
@given(entries=ENTRIES, trials=st.lists(TRIALS, max_size=3))
def test_only_what_nobody_names_goes(
    tmp_path_factory: pytest.TempPathFactory,
    entries: dict[str, tuple[bool, list[str], float]],
    trials: list[dict[str, tuple[str, str]]],
) -> None:
    storage = tmp_path_factory.mktemp("storage")
    store = Store(storage / "store")
    (storage / "results").mkdir()
    for name, (finished, left, age) in entries.items():
        lay(store, name, finished, left, age)
    named = {one for number, some in enumerate(trials) for one in refer(storage / "results" / f"s{number}", some)}
    expected: set[Path] = set()
    for name, (finished, left, age) in entries.items():
        every = {store.folder(name) / one for one in (*left, *([OUTCOME] if finished else []))}
        half = {store.folder(name) / ".half", *([store.folder(name) / CHECKPOINT] if finished else [])}
        expected |= every if age < 24 else every - half if name in named else set()
    kept = {path: path.read_bytes() for path in expected}
    found = list(garbage(storage, store, 24))
    before = sum(path.stat().st_size for path in (storage / "store").rglob("*") if path.is_file())
    for item in found:
        item.remove()
    left_over = {path: path.read_bytes() for path in (storage / "store").rglob("*") if path.is_file()}
    assert left_over == kept
    assert sum(item.size for item in found) == before - sum(map(len, kept.values()))
    assert list(garbage(storage, store, 24)) == []
    shutil.rmtree(storage)


@pytest.mark.parametrize("way", ["start", "finish", "row", "torn"])
def test_what_is_named_in_any_way_stays(way: str, tmp_path: Path, folder: Path) -> None:
    store = Store(tmp_path / "store")
    for name in NAMES[:3]:
        lay(store, name, True, [], 30)
    named = refer(folder, {NAMES[0]: (way, NAMES[1])})
    found = [item.place for item in garbage(tmp_path, store, 24)]
    assert found == [f"store entry {name}" for name in sorted(set(NAMES[:3]) - named)]


def test_what_is_left_in_results_goes(tmp_path: Path, folder: Path) -> None:
    begun(folder)
    for name in (".results.csv~host~1~ab", PULSE, "results.csv", SWEEP_FILE, LOCK, "tune/trial/x"):
        write_atomic(folder / name, "content")
    write_atomic(tmp_path / "store" / ".probe", "")
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    store = Store(tmp_path / "store")
    assert list(garbage(tmp_path, store, 3)) == []
    found = list(garbage(tmp_path, store, 1))
    assert [item.place.rpartition("/")[2] for item in found] == [".probe", ".results.csv~host~1~ab", PULSE, "tune"]
    for item in found:
        item.remove()
    left = {path.name for path in folder.iterdir()}
    assert left == {"results.csv", SWEEP_FILE, LOCK, JOURNAL}


def test_nothing_is_garbage_when_a_journal_cannot_be_read(tmp_path: Path, folder: Path) -> None:
    store = Store(tmp_path / "store")
    lay(store, NAMES[0], True, [], 30)
    with pytest.raises(ValueError, match=r"^--storage: .* has no results/"):
        list(garbage(tmp_path, store, 24))
    (folder / JOURNAL).mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"^{folder / JOURNAL}: cannot be read"):
        list(garbage(tmp_path, store, 24))
    assert store.outcome(NAMES[0]) is not None
