"""Garbage: what any sweep names is never taken away, what no sweep needs is."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.runner.workspace.garbage import Garbage, Sparing, garbage
from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import JOURNAL, SWEEP_FILE, Journal
from mwm.runner.workspace.lock import LOCK
from mwm.storage.filesystem import write_atomic
from mwm.storage.store import CHECKPOINT, OUTCOME, Store
from tests.unit.runner.workspace.test_status import ATTACK, HOUR, begun, outcome, silent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "small"


NAMES = [f"{number:016x}" for number in range(0xABCDEF0123450000, 0xABCDEF0123450008)]
AGES = (1.0, 30.0)


def going(storage: Path, store: Store, hours: float) -> list[Garbage]:
    """What goes of what nobody has written to for so many hours."""
    return [item for item in garbage(storage, store, Sparing(hours=hours)) if not item.spared]


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
            journal.finish(ATTACK, told, "an attack")
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
    found = going(storage, store, 24)
    before = sum(path.stat().st_size for path in (storage / "store").rglob("*") if path.is_file())
    for item in found:
        item.remove()
    left_over = {path: path.read_bytes() for path in (storage / "store").rglob("*") if path.is_file()}
    assert left_over == kept
    assert sum(item.size for item in found) == before - sum(map(len, kept.values()))
    assert going(storage, store, 24) == []
    shutil.rmtree(storage)


@pytest.mark.parametrize("way", ["start", "finish", "row", "torn"])
def test_what_is_named_in_any_way_stays(way: str, tmp_path: Path, folder: Path) -> None:
    store = Store(tmp_path / "store")
    for name in NAMES[:3]:
        lay(store, name, True, [], 30)
    named = refer(folder, {NAMES[0]: (way, NAMES[1])})
    found = [item.place for item in going(tmp_path, store, 24)]
    assert found == [f"store/{name[:2]}/{name}" for name in sorted(set(NAMES[:3]) - named)]


def test_what_is_left_in_results_goes(tmp_path: Path, folder: Path) -> None:
    begun(folder)
    for name in (".results.csv~host~1~ab", HEARTBEAT, "results.csv", SWEEP_FILE, LOCK, "tune/trial/x"):
        write_atomic(folder / name, "content")
    write_atomic(tmp_path / "store" / ".probe", "")
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    store = Store(tmp_path / "store")
    spared = list(garbage(tmp_path, store, Sparing(hours=3)))
    assert [item.place.rpartition("/")[2] for item in spared if not item.spared] == ["tune"], "it belongs to the dead"
    found = going(tmp_path, store, 1)
    assert [item.place for item in found] == [item.place for item in spared]
    assert [item.place.rpartition("/")[2] for item in found] == [".probe", ".results.csv~host~1~ab", HEARTBEAT, "tune"]
    for item in found:
        item.remove()
    left = {path.name for path in folder.iterdir()}
    assert left == {"results.csv", SWEEP_FILE, LOCK, JOURNAL}


def test_nothing_is_garbage_when_a_journal_cannot_be_read(tmp_path: Path, folder: Path) -> None:
    store = Store(tmp_path / "store")
    lay(store, NAMES[0], True, [], 30)
    with pytest.raises(ValueError, match=r"^--storage: .* has no results/"):
        going(tmp_path, store, 24)
    (folder / JOURNAL).mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"^{folder / JOURNAL}: cannot be read"):
        going(tmp_path, store, 24)
    assert store.outcome(NAMES[0]) is not None
