"""Several folders of results on one store: what any of them needs stays, and what cannot be read proves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from mwm.runner.workspace.location import StorageLocation
from mwm.runner.workspace.users import MARK, USERS
from mwm.storage.store import KEY, Store
from tests.helpers.asking import Say, heard, one_line
from tests.unit.runner.workspace.test_garbage import NAMES, lay, refer
from tests.unit.runner.workspace.test_status import HOUR

NEEDED, UNNEEDED = NAMES[:2]


def user(folder: Path, store: Path, needs: str | None = None) -> Path:
    """A storage whose store is a link, in which a sweep names a trial; written down, as a run does it."""
    (folder / "results").mkdir(parents=True)
    (folder / "store").symlink_to(store)
    if needs:
        refer(folder / "results" / "small", {needs: ("start", "")})
    StorageLocation(str(folder)).record_user()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "shared" / "store").mkdir(parents=True)
    return Store(tmp_path / "shared" / "store")


@pytest.fixture
def mine(tmp_path: Path, store: Store) -> Path:
    """A storage that needs nothing of what lies in the store: one trial is another folder's, and one nobody's."""
    mine = user(tmp_path / "mine", Path(store.root))
    user(tmp_path / "theirs", Path(store.root), NEEDED)
    for name in (NEEDED, UNNEEDED):
        lay(store, name, True, [], 0)
        (store.folder(name) / KEY).write_text(json.dumps({"guessable": True}))
    return mine


def clean(say: Say, folder: Path, *more: str) -> list[str]:
    return heard(say, "clean", "--older-than", "0", "--storage", str(folder), *more).splitlines()


def there(store: Store) -> set[str]:
    return {entry.digest for entry in store.entries()}


def test_what_another_folder_needs_stays(say: Say, mine: Path, store: Store) -> None:
    said = clean(say, mine, "--delete")
    assert re.fullmatch(rf"store/ab/{UNNEEDED}: \d+ B, no sweep needs it; holds the key of a victim", said[0])
    assert re.fullmatch(r"removed 1 thing, \d+ B", said[1])
    assert there(store) == {NEEDED}


def test_what_cannot_be_read_is_proof_of_nothing(say: Say, mine: Path, store: Store, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    words = ("clean", "--older-than", "0", "--storage", str(mine), "--delete")
    theirs.rename(tmp_path / "unmounted")
    one_line(say(*words), f"is used by {theirs}/results (on ", f"add --forget {theirs}/results")
    (theirs / "results").mkdir(parents=True)
    one_line(say(*words), f"is used by {theirs}/results (on ")
    assert there(store) == {NEEDED, UNNEEDED}
    one_line(say(*words, "--forget", "/elsewhere"), "--forget: /elsewhere is no other folder", f"{theirs}/results")
    assert clean(say, mine, "--delete", "--forget", f"{theirs}/results")[-1].startswith("removed 2 things")
    assert there(store) == set()
    assert clean(say, mine) == ["nothing to remove"]


def test_what_is_not_readable_or_damaged_removes_nothing(say: Say, mine: Path, store: Store, tmp_path: Path) -> None:
    journal = tmp_path / "theirs" / "results" / "small" / "journal.jsonl"
    content = journal.read_bytes()
    journal.unlink()
    journal.mkdir()
    one_line(say("clean", "--delete", "--storage", str(mine)), f"{journal}: cannot be read (Is a directory)")
    journal.rmdir()
    journal.write_bytes(content)
    record = next((Path(store.root) / USERS).iterdir())
    record.write_text("{")
    one_line(say("clean", "--delete", "--storage", str(mine)), f"{USERS}/{record.name}: is damaged")
    assert there(store) == {NEEDED, UNNEEDED}


def test_a_sweep_of_another_folder_that_runs_is_waited_for(say: Say, mine: Path, tmp_path: Path) -> None:
    status = tmp_path / "theirs" / "results" / "small" / "status.json"
    status.write_text(json.dumps({"at": time.time(), "host": "elsewhere"}))
    one_line(say("clean", "--delete", "--storage", str(mine)), "small is running; clean when it has ended")


def test_a_folder_that_was_moved_is_known_again(say: Say, mine: Path, store: Store, tmp_path: Path) -> None:
    moved = mine.rename(tmp_path / "moved")
    StorageLocation(str(moved)).record_user()
    assert clean(say, moved)[-1].startswith("1 thing"), "its old place is no other user"
    shutil.copytree(moved, tmp_path / "copy", symlinks=True)
    copied = StorageLocation(str(tmp_path / "copy"))
    copied.record_user()
    marks = [json.loads((place / "results" / MARK).read_text())["id"] for place in (moved, tmp_path / "copy")]
    assert marks[0] != marks[1], "a copy is another folder"


def test_one_folder_under_two_names_is_one_user(mine: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(mine)
    before = sorted((Path(store.root) / USERS).iterdir())
    StorageLocation(str(tmp_path / "alias")).record_user()
    assert sorted((Path(store.root) / USERS).iterdir()) == before


def test_a_record_of_another_store_came_with_a_copy(say: Say, mine: Path, store: Store, tmp_path: Path) -> None:
    (mine / "store").unlink()
    shutil.copytree(tmp_path / "shared" / "store", mine / "store")
    assert clean(say, mine, "--delete")[-1].startswith("removed 2 things")
    assert there(store) == {NEEDED, UNNEEDED}


def test_what_is_older_than_the_list_of_users_is_spared(say: Say, store: Store, tmp_path: Path) -> None:
    lay(store, UNNEEDED, True, [], 30)
    (tmp_path / "shared" / "results").mkdir()
    for _ in range(2):
        said = clean(say, tmp_path / "shared", "--delete")
        reason = "older than the list of who uses the store: --sole-user, if no other folder does"
        assert (said[0], said[1].endswith(reason)) == ("nothing to remove", True)
        StorageLocation(str(tmp_path / "shared")).record_user()
    assert clean(say, tmp_path / "shared", "--delete", "--sole-user")[-1].startswith("removed 1 thing")


def test_a_key_of_a_secret_goes_only_when_it_is_asked_for(say: Say, mine: Path, store: Store) -> None:
    for content in ('{"guessable": false}', "damaged"):
        (store.folder(UNNEEDED) / KEY).write_text(content)
        head, spared = clean(say, mine, "--delete")
        assert (head, there(store)) == ("nothing to remove", {NEEDED, UNNEEDED})
        assert spared.startswith("spared 1 thing, ")
        assert spared.endswith("with the key of a secret, and a lost key is a lost proof: --keys")
    assert clean(say, mine, "--delete", "--keys")[0].endswith("no sweep needs it; holds the key of a victim")
    assert there(store) == {NEEDED}


def test_what_is_young_is_counted(say: Say, mine: Path, store: Store) -> None:
    for path in store.folder(UNNEEDED).iterdir():
        os.utime(path, (time.time() - 5 * HOUR,) * 2)
    head, spared = heard(say, "clean", "--storage", str(mine)).splitlines()
    assert head == "nothing to remove"
    assert re.fullmatch(r"spared 1 thing, \d+ B, written to in the last 24 hours: --older-than HOURS", spared)
