"""Files: whole or not at all, on a disk that fills up and under processes that die; nothing secret is shown."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mwm.storage.filesystem import open_filesystem, require_writable, write_atomic
from mwm.storage.local import FileInfo, LocalFiles
from mwm.storage.object_store import ObjectStore
from mwm.storage.redaction import redact_uri
from mwm.storage.temporary import STALE_SECONDS, temporary_name

ROOT = Path(__file__).parents[3]


class Strict(MemoryFileSystem):  # type: ignore[misc]
    """A drive that, like HDFS and SMB, moves nothing onto what is there."""

    protocol = "strict"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("strict://")))

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        if self.exists(path2):
            raise FileExistsError(path2)
        super().mv(path1, path2, **options)


fsspec.register_implementation("strict", Strict, clobber=True)


@pytest.fixture(params=["folder", "file://", "memory://", "strict://"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> LocalFiles | ObjectStore:
    """An empty root of each kind."""
    place = f"{tmp_path}/a b" if request.param == "folder" else f"{request.param}{tmp_path}/a%20b"
    return open_filesystem(place)


def names(files: LocalFiles | ObjectStore) -> list[str]:
    """The names of all files, drafts too."""
    return sorted(file.name for file in files.walk() if not file.folder)


def test_a_file_is_read_as_it_was_written_last(files: LocalFiles | ObjectStore) -> None:
    for data in (b"old", b"", bytes(range(256)) * 1000):
        files.write("ab/abc/x.bin", data, sync=True)
        assert files.read("ab/abc/x.bin") == data
        assert names(files) == ["ab/abc/x.bin"]
    files.write("ab/abc/y", memoryview(b"other"))
    assert files.sha256("ab/abc/y") == "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
    assert files.exists("ab/abc/y")
    again = open_filesystem(files.root)
    assert again.read("ab/abc/y") == b"other"


def test_what_is_not_there_is_not_found_and_may_be_removed(files: LocalFiles | ObjectStore) -> None:
    for name in ("none", "ab/none"):
        assert not files.exists(name)
        files.remove(name)
        for ask in (files.read, files.sha256):
            with pytest.raises(FileNotFoundError):
                ask(name)
    files.remove_stale("none")
    files.remove_tree("none")
    files.remove_if_empty("none")
    assert list(files.walk()) == []


def test_all_is_listed_with_size_and_time(files: LocalFiles | ObjectStore) -> None:
    for name in ("top", "ab/abc/x", "ab/abc/y", "ab/abd/x"):
        files.write(name, name.encode())
    found = {file.name: file for file in files.walk() if not file.folder}
    assert {name: file.bytes for name, file in found.items()} == {"top": 3, "ab/abc/x": 8, "ab/abc/y": 8, "ab/abd/x": 8}
    assert all(abs(file.modified - time.time()) < 60 for file in found.values())
    assert {file.name for file in files.walk() if file.folder} == {"ab", "ab/abc", "ab/abd"}
    files.remove("ab/abc/x")
    files.remove_tree("ab/abd")
    files.remove_if_empty("ab/abc")
    assert names(files) == ["ab/abc/y", "top"]
    files.remove("ab/abc/y")
    files.remove_if_empty("ab/abc")
    assert {file.name for file in files.walk()} == {"top", "ab"}


@pytest.mark.parametrize("kind", ["folder", "memory://"])
def test_drafts_of_the_dead_are_removed_and_those_of_the_living_are_not(kind: str, tmp_path: Path) -> None:
    files = open_filesystem(tmp_path if kind == "folder" else f"{kind}{tmp_path}")
    ended = subprocess.Popen(["true"])
    ended.wait()
    alive, me = temporary_name("x.bin"), f"~{os.getpid()}~"
    dead, strange = alive.replace(me, f"~{ended.pid}~"), re.sub(r"~[^~]+~\d+~", "~elsewhere~1~", alive)
    others = [".x.bin", "x.bin", ".x~y~z", f"{dead}.bak", ".~elsewhere~1~0123456"]
    for name in (alive, dead, strange, *others):
        files.write(f"ab/{name}", b"half")
    files.remove_stale("ab")
    assert names(files) == sorted(f"ab/{name}" for name in (alive, strange, *others))
    if isinstance(files, LocalFiles):
        past = time.time() - STALE_SECONDS - 1
        for path in files.path.rglob("*"):
            os.utime(path, (past, past))
        files.remove_stale("ab")
        assert names(files) == sorted(f"ab/{name}" for name in others)


WRITE = """
import sys
from mwm.storage.local import LocalFiles
folder = LocalFiles(sys.argv[1])
while True:
    for letter in b"ab":
        folder.write("x/y/big", bytes([letter]) * 3_000_000)
"""


def test_a_process_killed_while_it_writes_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    chance, files, left, whole = random.Random(0), LocalFiles(tmp_path), 0, ({ord("a")}, {ord("b")})
    for kills in range(1, 100):  # twelve, and on a busy machine more until one came in time
        writer = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT)
        while not any("~" in name for name in names(files)):
            assert writer.poll() is None
        time.sleep(chance.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        left += names(files) != ["x/y/big"]
        if files.exists("x/y/big"):
            data = files.read("x/y/big")
            assert (len(data), set(data) in whole) == (3_000_000, True)
        files.remove_stale("x/y")
        assert set(names(files)) <= {"x/y/big"}
        if kills >= 12 and left:
            break
    assert left, "no process was killed in the middle of a file"


@contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of a few pages; skips the test where nothing may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a full disk takes a file system of its own, which cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", "128k") as disk:
        files = LocalFiles(disk)
        files.write("ab/abc/x", b"old" * 10_000)
        for name in ("ab/abc/x", "ab/abc/y", "ab/new/x", "cd/new/x"):
            with pytest.raises(OSError, match="No space left") as caught:
                files.write(name, b"new" * 50_000)
            assert caught.value.errno == errno.ENOSPC
            assert {file.name for file in files.walk()} - {"cd"} == {"ab", "ab/abc", "ab/abc/x"}
            assert files.read("ab/abc/x") == b"old" * 10_000
        files.write("ab/abc/x", b"new" * 10_000)
        assert files.read("ab/abc/x") == b"new" * 10_000


def test_a_failed_write_leaves_nothing_beside(files: LocalFiles | ObjectStore) -> None:
    files.write("ab/x", b"old")
    with pytest.raises(TypeError):
        files.write("ab/x", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        files.write("cd/x", "text")  # type: ignore[arg-type]
    assert names(files) == ["ab/x"]
    assert files.read("ab/x") == b"old"


def test_a_place_can_be_written_or_says_why_not(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "store")
    assert not any((tmp_path / "new" / "store").iterdir())
    require_writable(f"memory://{tmp_path}")
    file = tmp_path / "file"
    file.write_text("")
    for root in (file, file / "below", Path("/proc/none")):
        with pytest.raises(ValueError, match=f"^--storage: {root} cannot be written") as caught:
            require_writable(root)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("nothing://place/x", "nothing://place/x cannot be used (Protocol not known: nothing"),
        ("s3://", "s3:// cannot be used ("),
        ("s3://KEY:pass%2Fword@bucket/x?bogus=tik", "s3://bucket/x cannot be used (Unexpected query parameter in"),
        ("s3://KEY:pass/word@bucket/x?region=r", "s3://bucket/x cannot be used ("),
        ("s3://KEY:pass@bucket/x?session_token=tik@tak", "s3://*** cannot be used ("),
        ("nothing://KEY:pass@place:port/x#tik", "nothing://place:port/x cannot be used ("),
        ("s3:/bucket/x", "s3:/bucket/x is neither a folder nor a URI; write SCHEME://PATH"),
    ],
)
def test_a_uri_that_cannot_be_used_is_one_line_without_secrets(uri: str, shown: str) -> None:
    with pytest.raises(ValueError, match=f"^--storage: {re.escape(shown)}") as caught:
        require_writable(uri)
    assert len(str(caught.value).splitlines()) == 1
    assert not any(secret in str(caught.value) for secret in ("KEY", "pass", "word", "tik", "tak"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "the traceback would tell"


def test_what_is_shown_of_a_root_holds_no_secret(tmp_path: Path) -> None:
    assert redact_uri("s3://k:p@bucket/a?session_token=t") == "s3://bucket/a"
    assert redact_uri(str(tmp_path)) == str(tmp_path)
    assert open_filesystem(tmp_path).display_name == str(tmp_path)
    assert open_filesystem(f"memory://k:p@{tmp_path}").display_name == f"memory://{tmp_path}"


LOCAL_ONLY = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyarrow", "fsspec", "ray", "mlflow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from mwm.storage.filesystem import open_filesystem, require_writable
require_writable(sys.argv[1])
open_filesystem(sys.argv[1]).write("x", b"1")
assert open_filesystem("file://" + sys.argv[1]).read("x") == b"1"
try:
    require_writable("s3://bucket/x")
except ValueError as error:
    print(error)
"""


def test_a_folder_needs_no_library(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", LOCAL_ONLY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("--storage: s3://bucket/x cannot be used (No module named 'pyarrow')")


def test_a_relative_folder_is_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = open_filesystem("here").root
    write_atomic(Path("here/x"), "ä")
    monkeypatch.chdir("/")
    assert open_filesystem(root).read("x") == "ä".encode()
    assert list(open_filesystem(root).walk()) == [FileInfo("x", 2, (tmp_path / "here" / "x").stat().st_mtime)]
