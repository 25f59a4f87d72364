"""A follower that dies and is followed by another: what stands in MLflow in the end is what the journal tells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mwm.runner.tracking.follower import Ending, Followed, MlflowFollower, Read
from mwm.runner.tracking.position import FOLLOWED
from mwm.runner.tracking.sender import Sender, UnsentError
from mwm.runner.tracking.writer import JournalEvent
from mwm.runner.workspace.journal import JOURNAL, read_events
from mwm.runner.workspace.location import PICTURES
from tests.helpers.tracked import ATTACK, ATTACK_DONE, DONE, MARKED, Tracker, begin, row, runs

FAILED = replace(ATTACK_DONE, status="failed", error="boom", clean_acc=None)
RETRIED = replace(DONE, digest="v1", victim_digest="v1")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Path:
    """A sweep's folder: two sessions, a victim that is retried, an attack that fails first, what is found finished."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    with Tracker(f"sqlite:///{folder / 'mlflow.db'}", "whole", tags={}, folder=folder) as tracker:
        (folder / PICTURES / "v0.png").write_bytes(b"png")
        begin(tracker)
        for epoch in (1, 2, 3, 2, 3):  # its process died, and went on from an earlier checkpoint
            tracker.log("v0", row(epoch))
        tracker.finish("v0", DONE)
        tracker.start(MARKED, digest="v1", victim_digest="v1", data_digest="d0")
        tracker.log("a0", row(1))
        tracker.finish("a0", FAILED)
        tracker.journal.end("KILLED")
        tracker.journal.begin()
        tracker.journal.cached("v0", "victim", "done")
        tracker.start(ATTACK, digest="a0", victim_digest="v0", data_digest="d0")
        for epoch in (1, 2):
            tracker.log("a0", row(epoch))
        tracker.finish("a0", ATTACK_DONE)
        tracker.log_late_metrics("v0", {"worst_query_acc": 0.25})
        tracker.start(MARKED, digest="v1", victim_digest="v1", data_digest="d0")
        tracker.log("v1", row(1))
        tracker.finish("v1", RETRIED)
        tracker.log_late_metrics("v0", {"worst_query_acc": 0.125})
        tracker.start(
            replace(MARKED, victim=replace(MARKED.victim, seed=7)), digest="v2", victim_digest="v2", data_digest="d0"
        )
        tracker.log("v2", row(1))
        tracker.journal.end("FAILED")
    shutil.rmtree(folder / "mlruns")
    (folder / FOLLOWED).unlink()
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of the sweep's folder."""
    return shutil.copytree(written, tmp_path / "sweep")


def following(uri: str, name: str, folder: Path, read: Read | None = None, **more: Any) -> MlflowFollower:
    followed = Followed(name, read or partial(read_events, folder), folder, folder / PICTURES)
    return MlflowFollower(uri, followed, tags={}, **more)


def brought(uri: str, name: str, folder: Path, **more: Any) -> int:
    return following(uri, name, folder, **more).close("FAILED")


def records(uri: str, name: str) -> dict[str, Any]:
    """All that MLflow holds of a sweep, but for ids, its own times and the name of the sweep."""
    client, found = MlflowClient(uri), runs(uri, name)
    names = {run.info.run_id: digest for digest, run in found.items()}
    told = {}
    for digest, run in found.items():
        points = {
            (key, point.step, point.timestamp, point.value)
            for key in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, key)
        }
        tags = {key: names.get(value, value) for key, value in run.data.tags.items() if key != "mwm.sweep"}
        told[digest] = {
            **{"status": run.info.status, "ended": run.info.end_time, "tags": tags, "points": points},
            **{"last": run.data.metrics, "params": run.data.params},
            "began": run.info.start_time if digest != "sweep" else 0,
            "data": [used.dataset.digest for used in run.inputs.dataset_inputs] if run.inputs else [],
            "files": [item.path for item in client.list_artifacts(run.info.run_id)],
        }
        tags.pop("mlflow.runName")
    return told


def test_everything_is_stamped_with_the_time_of_its_event(uri: str, folder: Path) -> None:
    assert brought(uri, "whole", folder) == 0
    found = records(uri, "whole")
    assert {name: run["status"] for name, run in found.items()} == {
        **{"sweep": "FAILED", "v0": "FINISHED", "a0": "FINISHED"},
        **{"v1": "FINISHED", "v2": "KILLED"},
    }
    events = [event for event, _ in read_events(folder)]
    assert sorted({round(1000 * event["at"]) for event in events}) == [round(1000 * event["at"]) for event in events]
    for name, run in found.items():
        own = [event for event in events if name in (event.get("digest"), event.get("outcome", {}).get("digest"))]
        stamps = {round(1000 * event["at"]) for event in own}
        assert {stamp for _, _, stamp, _ in run["points"]} <= stamps
        ends = [event for event in own if event["event"] == "finish"] or [events[-1]]
        assert run["ended"] == round(1000 * ends[-1]["at"])
    assert {(step, value) for key, step, _, value in found["v0"]["points"] if key == "loss"} == {
        (epoch, 1 / epoch) for epoch in (1, 2, 3)
    }
    assert found["v0"]["last"]["worst_query_acc"] == 0.125
    assert found["a0"]["tags"]["error"] == ""


class Dying(Sender):
    """A sender whose process is killed when it has made some writes, before the next one or before it is noted."""

    left, noted = 0, True

    def send(self, kind: str, write: Callable[[], object]) -> bool:
        if Dying.left == 0:
            if not Dying.noted:
                write()
            raise UnsentError
        Dying.left -= 1
        return super().send(kind, write)


@pytest.mark.slow
@pytest.mark.parametrize("noted", [True, False], ids=["before the next", "in the next"])
@pytest.mark.parametrize("writes", range(0, 36, 4))
def test_a_follower_that_was_killed_leaves_nothing_that_the_next_does_not_mend(
    uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch, writes: int, noted: bool
) -> None:
    whole = shutil.copytree(folder, folder.parent / "other")
    assert brought(uri, "whole", whole) == 0
    with monkeypatch.context() as patch:
        patch.setattr("mwm.runner.tracking.writer.Sender", Dying)
        Dying.left, Dying.noted = writes, noted
        assert brought(uri, "killed", folder) > 0, "it was through before it died"
    assert brought(uri, "killed", folder) == 0
    assert records(uri, "killed") == records(uri, "whole")


def first_read(uri: str, folder: Path, name: str = "whole", **more: Any) -> int:
    """From where on a follower reads; one that goes on looks at the last event that was brought."""
    seen: list[int] = []

    def read(position: int) -> Iterator[tuple[JournalEvent, int]]:
        seen.append(position)
        return read_events(folder, position)

    assert following(uri, name, folder, read, **more).close("FAILED") == 0
    return min(seen)


def last_event(folder: Path) -> int:
    """Where the last event of a journal begins."""
    return (folder / JOURNAL).read_bytes()[:-1].rindex(b"\n") + 1


def test_what_was_brought_is_not_read_again(uri: str, folder: Path) -> None:
    whole = (folder / JOURNAL).read_bytes()
    cut = whole.index(b'"event":"end"')
    (folder / JOURNAL).write_bytes(whole[: whole.index(b"\n", cut) + 1])
    assert brought(uri, "parts", folder) == 0
    brought_to = last_event(folder)
    (folder / JOURNAL).write_bytes(whole)
    assert first_read(uri, folder, "parts") == brought_to
    assert brought(uri, "whole", shutil.copytree(folder, folder.parent / "other")) == 0
    assert records(uri, "parts") == records(uri, "whole")


def test_a_position_that_cannot_be_relied_on_is_forgotten(uri: str, folder: Path, tmp_path: Path) -> None:
    assert first_read(uri, folder) == 0
    last, end = last_event(folder), (folder / JOURNAL).stat().st_size
    expected = records(uri, "whole")
    assert first_read(uri, folder) == last
    assert first_read(uri, folder, anew=True) == 0
    assert first_read(uri, folder, experiment="another") == 0
    assert first_read(uri, folder) == last, "what belongs to another store was lost"
    kept = (folder / FOLLOWED).read_text()
    for damaged in (
        "",
        "[]",
        kept[:-20],
        kept.replace('"settled":true', '"settled":false'),
        kept.replace('"at":', '"at":1'),
    ):
        (folder / FOLLOWED).write_text(damaged)
        assert first_read(uri, folder) == 0
    (folder / FOLLOWED).unlink()
    assert first_read(uri, folder) == 0
    (folder / JOURNAL).write_bytes((folder / JOURNAL).read_bytes()[: end // 2])
    assert first_read(uri, folder) == 0, "the journal is another one"
    (folder / FOLLOWED).write_text(kept)
    MlflowClient(uri).delete_run(runs(uri, "whole")["sweep"].info.run_id)
    assert first_read(uri, folder) == 0, "the sweep's run is not there"
    assert records(uri, "whole").keys() == expected.keys()


def test_what_was_deleted_is_made_again_by_one_that_asks(uri: str, folder: Path) -> None:
    assert brought(uri, "whole", folder) == 0
    expected = records(uri, "whole")
    for name in ("v0", "a0"):
        MlflowClient(uri).delete_run(runs(uri, "whole")[name].info.run_id)
    assert brought(uri, "whole", folder) == 0
    assert "v0" not in runs(uri, "whole")
    assert brought(uri, "whole", folder, anew=True) == 0
    assert records(uri, "whole") == expected


def test_an_unfinished_line_waits_and_a_damaged_one_is_passed_over(
    uri: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / JOURNAL).read_bytes()
    (folder / JOURNAL).write_bytes(whole[:-10])
    follower = following(uri, "torn", folder)
    assert follower.close("FAILED") == 0
    lines = whole.splitlines(keepends=True)
    other = [b'\x00\n{"at":1,"event":"finish"}\n', b'{"at":2,"event":"start","digest":"x","trial":{}}\n']
    (folder / JOURNAL).write_bytes(b"".join([*lines[:3], *other, *lines[3:]]))
    assert brought(uri, "torn", folder) == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: MLflow: an event of the journal is damaged, or of another release")
    assert (
        brought(uri, "whole", shutil.copytree(folder, folder.parent / "other", ignore=shutil.ignore_patterns(FOLLOWED)))
        == 0
    )
    assert records(uri, "torn") == records(uri, "whole")


def test_what_fails_in_the_end_leaves_no_run_running(
    uri: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Ending:
        raise KeyError("no such column")

    assert following(uri, "whole", folder).close("FINISHED", broken) == 1
    assert {run.info.status for run in runs(uri, "whole").values()} == {"FINISHED", "KILLED"}
    assert "KeyError: 'no such column'" in capsys.readouterr().err


def test_a_journal_that_cannot_be_read_is_told_and_counted(
    uri: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / JOURNAL).unlink()
    (folder / JOURNAL).mkdir()
    assert brought(uri, "whole", folder) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_the_file_names_the_store_without_its_password(uri: str, folder: Path) -> None:
    assert brought(uri, "whole", folder) == 0
    (part,) = json.loads((folder / FOLLOWED).read_text()).values()
    assert (part["tracking_uri"], part["experiment"]) == (uri, "whole")
    assert part["experiment_id"] == MlflowClient(uri).get_experiment_by_name("whole").experiment_id  # type: ignore[union-attr]
    assert {name: run["id"] for name, run in part["runs"].items()} == {
        name: run.info.run_id for name, run in runs(uri, "whole").items() if name != "sweep"
    }
