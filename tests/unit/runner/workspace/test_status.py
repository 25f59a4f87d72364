"""How sweeps stand: what a shell is told by the files of a driver that runs, has ended or was killed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from mwm.runner.workspace.garbage import Sparing, garbage, referenced_digests
from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import SWEEP_FILE, Journal, read_journal
from mwm.runner.workspace.lock import sweep_lock
from mwm.runner.workspace.status import find_sweep, list_sweeps, sweep_status
from mwm.storage.store import Store

VICTIM: dict[str, Any] = {"victim": {"seed": 0}, "attack": None}
ATTACK: dict[str, Any] = {"victim": {"seed": 0}, "attack": {"kind": "extraction"}}
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
        journal.finish(ATTACK, outcome(name, "skipped"), f"attack {name}")
    for name in ("a0", "a1"):
        journal.start(name, "attack", f"attack {name}")
    journal.finish(ATTACK, outcome("a0", query_acc=0.5, clean_acc=0.9, log10_p=-3.0), "attack a0")
    return journal


def say(folder: Path, **said: Any) -> None:
    """What a driver elsewhere says."""
    (folder / HEARTBEAT).write_text(json.dumps({"at": time.time(), "pid": 7, "host": "elsewhere", **said}))


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
    assert now.best is None, "the worst attack may be the one that is under way"
    assert now.left is not None
    assert 0 < now.left <= 60
    assert now.results == str(folder / "results.csv")


@pytest.mark.parametrize("exact", [True, False])
def test_the_best_victim_keeps_most_after_the_worst_of_its_attacks(folder: Path, exact: bool) -> None:
    journal = begun(folder)
    for name, proof, query in (("v0", -2.0, 0.9), ("v1", -9.0, 0.1)):
        metrics = {"worst_query_acc": query} | ({"worst_log10_p": proof} if exact else {})
        journal.measures(name, metrics, {"worst_attack": "hard"})
    best = sweep_status(folder).best
    assert best is not None
    name = "v1" if exact else "v0"
    assert (best["digest"], best["label"], best["worst_attack"]) == (name, f"victim {name}", "hard")
    assert best["worst_log10_p"] == (-9.0 if exact else None)


def test_a_killed_sweep_is_interrupted(folder: Path) -> None:
    begun(folder)
    now = sweep_status(folder)
    assert (now.state, now.running, now.left) == ("interrupted", [], None)
    assert now.reason == "its driver ended without a word: it was killed, or its machine stopped"
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


def test_why_a_driver_ended_is_told_until_it_works_again(folder: Path) -> None:
    begun(folder).end("FAILED", totals=TOTALS, reason="RuntimeError: Ray is gone")
    assert sweep_status(folder).reason == "RuntimeError: Ray is gone"
    with sweep_lock(folder):
        assert sweep_status(folder).reason == ""
    begun(folder).end("FINISHED", totals=TOTALS)
    assert sweep_status(folder).reason == ""


@pytest.mark.parametrize(("age", "state"), [(1.0, "running"), (-20.0, "running"), (600.0, "interrupted")])
def test_a_driver_elsewhere_is_known_by_its_heartbeat(folder: Path, age: float, state: str) -> None:
    begun(folder)
    say(folder, at=time.time() - age)
    assert sweep_status(folder).state == state


@pytest.mark.parametrize(("later", "total"), [(-0.0005, 3), (-HOUR, 2)])
def test_a_heartbeat_counts_unless_it_is_of_an_earlier_session(folder: Path, later: float, total: int) -> None:
    """The journal rounds its times to the millisecond: its first line may be younger than the heartbeat after it."""
    begun(folder)
    say(folder, at=read_journal(folder).begin["at"] + later, totals=TOTALS | {"victim": 3})
    with sweep_lock(folder):
        assert sweep_status(folder).counts["victims"]["total"] == total


def test_a_heartbeat_of_this_machine_without_its_lock_is_dead(folder: Path) -> None:
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
    list(garbage(tmp_path, Store(tmp_path / "store"), Sparing(hours=0)))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_victims_without_a_watermark_are_listed(folder: Path) -> None:
    journal = begun(folder)
    journal.finish(VICTIM, outcome("v2", query_acc=0.1, marked=False, log10_p=-0.25), "victim v2")
    journal.finish(VICTIM, outcome("v3", query_acc=1.0, marked=True, log10_p=-9.0), "victim v3")
    assert sweep_status(folder).unmarked == [{"digest": "v2", "label": "victim v2", "log10_p": -0.25}]
