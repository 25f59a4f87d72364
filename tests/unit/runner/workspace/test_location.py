"""Where the files of sweeps go: here, or in an object store with a working copy here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mwm.runner.workspace.location import StorageLocation
from mwm.runner.workspace.lock import holder, sweep_lock
from mwm.storage.temporary import temporary_name


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI; the driver's own folder is another one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return (tmp_path / "bucket").as_uri()


def test_a_folder_holds_results_and_store(tmp_path: Path) -> None:
    place = StorageLocation(str(tmp_path))
    folder = place.prepare_sweep_dir("mine")
    assert (folder, place.store) == (tmp_path / "results" / "mine", str(tmp_path / "store"))
    (folder / "sweep.json").write_text("{}")
    place.upload(folder)
    place.download()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "results", "store", "sweep.json"]


def test_what_a_killed_driver_left_half_written_goes(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    folder = StorageLocation(str(tmp_path)).prepare_sweep_dir("mine")
    for name in ("results.csv", "queries/v.png"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("whole")
        mine = temporary_name(path.name)
        for draft in (mine, mine.replace(f"~{os.getpid()}~", f"~{ended.pid}~")):
            path.with_name(draft).write_text("half")
    StorageLocation(str(tmp_path)).prepare_sweep_dir("mine")
    left = [path.name for path in folder.rglob("*") if path.is_file()]
    assert {"results.csv", "v.png"} <= set(left)
    assert len(left) == 4, "the drafts of the living stay, and only they"


def test_results_follow_to_another_machine(remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = StorageLocation(remote)
    folder = one.prepare_sweep_dir("mine")
    for name in ("sweep.json", "queries/v.png", ".lock", "tune/state.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    one.upload(folder)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    again = StorageLocation(remote).prepare_sweep_dir("mine")
    assert sorted(str(path.relative_to(again)) for path in again.rglob("*")) == [
        "queries",
        "queries/v.png",
        "sweep.json",
    ]
    assert (again / "queries" / "v.png").read_text() == "queries/v.png"


def test_only_what_has_changed_is_copied(remote: str, tmp_path: Path) -> None:
    place = StorageLocation(remote)
    folder, copy = place.prepare_sweep_dir("mine"), tmp_path / "bucket" / "results" / "mine"
    (folder / "a").write_text("1")
    (folder / "b").write_text("1")
    place.upload(folder)
    before = {name: (copy / name).stat().st_ino for name in "ab"}
    (folder / "b").write_text("22")
    place.upload(folder)
    assert (copy / "a").stat().st_ino == before["a"]
    assert (copy / "b").read_text() == "22"


@pytest.mark.parametrize(("age", "kept"), [(60, "copy"), (-60, "here")])
def test_the_newer_file_stays(remote: str, tmp_path: Path, age: float, kept: str) -> None:
    place = StorageLocation(remote)
    folder = place.prepare_sweep_dir("mine")
    copy = tmp_path / "bucket" / "results" / "mine"
    copy.mkdir(parents=True)
    (copy / "a").write_text("copy")
    (folder / "a").write_text("here")
    then = (copy / "a").stat().st_mtime - age
    os.utime(folder / "a", (then, then))
    place.download("mine")
    assert (folder / "a").read_text() == kept


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^--storage: .* cannot be written \(.*\); name a folder you own$"):
        StorageLocation(str(tmp_path / "file")).prepare_sweep_dir("mine")


def test_only_what_lies_inside_goes_with_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: str) -> None:
    here = Path.cwd()
    assert not StorageLocation(".").is_outside(here)
    assert not StorageLocation("below/it").is_outside(here)
    assert StorageLocation(str(tmp_path / "elsewhere")).is_outside(here)
    assert StorageLocation(remote).is_outside(here)


def test_a_sweep_at_work_here_is_not_overwritten(remote: str, tmp_path: Path) -> None:
    place = StorageLocation(remote)
    folder = place.prepare_sweep_dir("mine")
    (folder / "journal.jsonl").write_text("old")
    place.upload(folder)
    (folder / "journal.jsonl").write_text("new")
    os.utime(folder / "journal.jsonl", (1, 1))
    with sweep_lock(folder):
        place.download()
        assert (folder / "journal.jsonl").read_text() == "new"
    place.download()
    assert (folder / "journal.jsonl").read_text() == "old"


def test_options_of_a_uri_stay_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert StorageLocation("memory://place?region=x").store == "memory://place/store?region=x"


def test_a_place_that_does_not_exist_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^--storage: .* cannot be used"):
        StorageLocation("nothing://place").download()


def test_what_has_not_begun_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "new" / "place"
    with pytest.raises(KeyError), StorageLocation(home).sweep_dir("mine") as folder, sweep_lock(folder):
        raise KeyError
    assert not any(tmp_path.iterdir())
    with StorageLocation(home).sweep_dir("mine") as folder, sweep_lock(folder):
        (folder / "sweep.json").write_text("{}")
    with StorageLocation(home).sweep_dir("other") as other, sweep_lock(other):
        pass
    assert folder.is_dir()
    assert [path.name for path in (home / "results").iterdir() if path.name != ".lock"] == ["mine"]


def test_what_others_have_there_stays(tmp_path: Path) -> None:
    place = StorageLocation(tmp_path)
    with place.sweep_dir("mine") as folder:
        (folder / "notes").write_text("by hand")
    assert (folder / "notes").is_file()
    with sweep_lock(folder):
        with place.sweep_dir("mine") as same:
            assert same == folder
        assert holder(folder) is not None, "the lock of who works there was taken away"
