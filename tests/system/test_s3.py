"""The store on S3: the same promises as on a disk, held against a real server over HTTP."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from pyarrow.fs import FileSelector, FileSystem

from mwm.storage.filesystem import open_filesystem, require_writable
from mwm.storage.store import CHECKPOINT, KEY, OUTCOME, PERTURBED, QUERIES, WEIGHTS, Entry, Store
from mwm.trials.artifacts import key_files, perturbed_images, save_key
from mwm.trials.artifacts import query_set as query_set_of
from tests.helpers.launching import launched, sweep
from tests.unit.storage.test_store import NAME, OUTCOME_TREE, ROWS, key, query_set, same, weights

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SECRET = "very%2Fsecret"


@contextmanager
def s3() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of an S3 server with an empty bucket, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        make = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
        for _ in range(600):
            try:
                urllib.request.urlopen(make, timeout=10).close()
                break
            except OSError:
                assert server.poll() is None, "the server has ended"
                time.sleep(0.1)
        yield f"127.0.0.1:{port}", server
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """One server for all tests; each has a place of its own in the bucket."""
    with s3() as (address, _):
        yield address


def uri(address: str, place: str, bucket: str = "bucket") -> str:
    """A place in the bucket, as a user would write it."""
    query = f"endpoint_override={address}&scheme=http&region=us-east-1"
    return f"s3://someone:{SECRET}@{bucket}/{place}?{query}"


def filled(root: str) -> Store:
    """A store with one finished entry."""
    store, asked = Store(root), query_set()
    store.save_weights(NAME, weights())
    save_key(store, NAME, key(), perturbed=asked.float_images)
    store.commit(NAME, OUTCOME_TREE, ROWS)
    return store


def objects(root: str) -> dict[str, bytes]:
    """All objects under a root, read past the code under test."""
    system, path = FileSystem.from_uri(root)
    found = system.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    names = [info.path for info in found if info.is_file]
    return {name.removeprefix(f"{path}/"): system.open_input_file(name).read() for name in names}


def test_everything_comes_back_as_it_was(address: str) -> None:
    root = uri(address, "round/trip")
    require_writable(root)
    assert objects(root) == {}
    store = Store(root)
    assert store.outcome(NAME) is None
    assert store.checkpoint(NAME) is None
    for epoch in (1, 2):
        store.save_checkpoint(NAME, {"epoch": epoch, "model": weights(epoch), "rows": ROWS})
    found = Store(root).checkpoint(NAME)
    assert found is not None
    assert (found["epoch"], found["rows"], same(found["model"], weights(2))) == (2, ROWS, True)
    filled(root)
    again = Store(store.root)
    assert again.outcome(NAME) == OUTCOME_TREE
    assert again.rows(NAME) == ROWS
    assert same(again.weights(NAME), weights())
    assert query_set_of(again, NAME).digest() == query_set().digest()
    assert torch.equal(perturbed_images(again, NAME), query_set().images)
    assert set(objects(root)) == {f"01/{NAME}/{name}" for name in (OUTCOME, WEIGHTS, KEY, QUERIES, PERTURBED)}


def test_large_weights_come_back(address: str) -> None:
    store, large = Store(uri(address, "large")), {"w": torch.arange(3_000_000.0)}
    store.save_weights(NAME, large)
    store.commit(NAME, OUTCOME_TREE)
    assert store.outcome(NAME) == OUTCOME_TREE
    assert same(store.weights(NAME), large)


@pytest.mark.parametrize("name", [OUTCOME, WEIGHTS, KEY, QUERIES, PERTURBED])
def test_what_is_damaged_is_not_finished(name: str, address: str) -> None:
    root = uri(address, f"damage/{name}")
    store, files, path = filled(root), open_filesystem(root), f"01/{NAME}/{name}"
    whole = files.read(path)
    middle = len(whole) // 2
    for data in (b"", whole[:-1], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], None):
        files.remove(path) if data is None else files.write(path, data)
        assert store.outcome(NAME) is None
        uses: dict[str, Callable[[str], object]] = {
            WEIGHTS: store.weights,
            QUERIES: partial(query_set_of, store),
            KEY: partial(key_files, store),
        }
        uses |= {PERTURBED: partial(perturbed_images, store), OUTCOME: store.rows}
        with pytest.raises(ValueError, match=rf"^s3://bucket/damage/{name}/01/{NAME}: {name} is missing or damaged$"):
            uses[name](NAME)
    store.discard(NAME)
    assert objects(root) == {}
    assert filled(root).outcome(NAME) == OUTCOME_TREE


def test_a_damaged_checkpoint_is_none_and_gone(address: str) -> None:
    root = uri(address, "checkpoint")
    store, files, path = Store(root), open_filesystem(root), f"01/{NAME}/{CHECKPOINT}"
    for cut in (0, 20, -1):
        store.save_checkpoint(NAME, {"epoch": 1})
        files.write(path, files.read(path)[:cut])
        assert store.checkpoint(NAME) is None
        assert objects(root) == {}


def test_what_lies_in_a_store_is_listed_and_taken_away(address: str) -> None:
    root = uri(address, "listed")
    store = filled(root)
    store.save_checkpoint("abc", {"epoch": 1})
    found = {entry.digest: entry for entry in store.entries()}
    size = sum(len(data) for name, data in objects(root).items() if NAME in name)
    assert found[NAME] == Entry(NAME, True, size, found[NAME].modified)
    assert abs(found[NAME].modified - time.time()) < 60
    assert not found["abc"].finished
    assert len(found) == 2
    store.discard(NAME)
    assert store.outcome(NAME) == OUTCOME_TREE
    store.discard("abc")
    assert [entry.digest for entry in store.entries()] == [NAME]
    store.remove(NAME)
    store.remove("none")
    assert list(store.entries()) == []
    assert objects(root) == {}


WRITE = """
import sys
import torch
from mwm.storage.store import Store
store = Store(sys.argv[1])
for _ in range(6):
    store.save_checkpoint("same", {"epoch": 1})
    store.save_weights("same", {"fc": torch.arange(12.0)})
    store.commit("same", {"clean_acc": 0.5})
    assert store.outcome("same") == {"clean_acc": 0.5}
"""


def test_two_processes_may_finish_the_same_trial(address: str) -> None:
    root = uri(address, "twins")
    command = [sys.executable, "-W", "error", "-c", WRITE, root]
    twins = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(twin.communicate()[1], twin.returncode) for twin in twins] == [("", 0), ("", 0)]
    store = Store(root)
    assert store.outcome("same") == {"clean_acc": 0.5}
    assert set(objects(root)) == {f"sa/same/{OUTCOME}", f"sa/same/{WEIGHTS}"}


def test_a_place_that_cannot_be_used_is_told_in_one_line(address: str) -> None:
    for root, reason in (
        (uri(address, "x", bucket="none"), "s3://none/x cannot be used (.*bucket does not exist"),
        (uri("127.0.0.1:1", "x"), "s3://bucket/x cannot be used (.*Could not connect to server"),
        (uri("127.0.0.1:1", "x" * 300), f"s3://bucket/{'x' * 300} cannot be used (AWS Error .*Could not connect"),
    ):
        pattern = f"^--storage: {re.escape(reason).replace(re.escape('.*'), '.*')}"
        with pytest.raises(ValueError, match=pattern) as caught:
            require_writable(root)
        assert len(str(caught.value).splitlines()) == 1
        assert not any(secret in str(caught.value) for secret in ("someone", "very", "secret"))


def test_a_server_that_is_away_undoes_nothing() -> None:
    with s3() as (address, server):
        store = filled(uri(address, "away"))
        server.kill()
        server.wait()
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            store.discard(NAME)
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            store.save_checkpoint(NAME, {"epoch": 1})


@pytest.fixture
def bucket(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage on S3, the credentials where a user has them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    return f"s3://bucket/mwm?endpoint_override={address}&scheme=http&region=us-east-1"


def test_a_sweep_goes_on_elsewhere(bucket: str, tmp_path: Path, mlflow_db: Path) -> None:
    found = []
    for machine in ("one", "two"):
        folder = tmp_path / machine
        folder.mkdir()
        shutil.copy(mlflow_db, folder / "mlflow.db")
        done = launched(folder, "run", sweep(folder), "--storage", bucket, *["--resume"] * (machine == "two"))
        assert done.returncode == 0, done.stderr
        assert (folder / "results" / "small" / "summary.json").exists()
        found.append(
            {file.name: file.modified for file in open_filesystem(bucket).walk() if file.name.endswith(OUTCOME)}
        )
    assert len(found[0]) == 6
    assert found[0] == found[1], "a finished trial was trained again"
    listed = launched(tmp_path, "list", "--storage", bucket)
    assert listed.returncode == 0, listed.stderr
    assert "finished" in listed.stdout
    refused = launched(tmp_path, "clean", "--storage", bucket)
    assert (refused.returncode, "cannot be cleaned" in refused.stderr) == (2, True)
