"""The store: what was kept comes back bit for bit, what is damaged or unfinished is as if it had never been."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mwm.storage.filesystem import write_atomic
from mwm.storage.store import CHECKPOINT, KEY, OUTCOME, PERTURBED, QUERIES, WEIGHTS, Entry, Store
from mwm.trials.artifacts import key_files, perturbed_images, save_key
from mwm.trials.artifacts import query_set as query_set_of
from mwm.watermarks.key import Key
from mwm.watermarks.queries import QuerySet

NAME = "0123456789abcdef"
OUTCOME_TREE = {"status": "done", "clean_acc": 0.5, "p_value": 1e-9, "oracle_calls": 12, "query_acc": None}
ROWS = [{"epoch": 1, "loss": 0.25, "lr": 0.1, "val_acc": 0.5, "query_acc": 0.0, "epoch_seconds": 1e-09}]


def weights(seed: int = 0) -> dict[str, Tensor]:
    """What a network may hold: floats, a number, a transposed view."""
    chance = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 3, generator=chance)
    return {"fc.weight": matrix.T, "fc.bias": torch.randn(3, generator=chance), "norm.count": torch.tensor(7)}


def query_set() -> QuerySet:
    """Three queries."""
    images = torch.arange(3 * 16, dtype=torch.uint8).view(3, 1, 4, 4)
    return QuerySet(images, torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2]))


def key(created: str = "2026-01-02T03:04:05Z") -> Key:
    """A key of these queries."""
    secret, split = bytes(range(32)), {"validation": 1, "queries": 3, "disjoint": 0.0, "seed": 0}
    return Key(
        queries=query_set(),
        secret=secret,
        classes=3,
        scheme="base",
        data={"kind": "digits"},
        split=split,
        data_digest="0" * 16,
        guessable=False,
        created=created,
        method=2,
    )


def filled(root: Path) -> Store:
    """A store with one finished entry."""
    store = Store(root)
    asked = query_set()
    store.save_weights(NAME, weights())
    save_key(store, NAME, key(), perturbed=asked.float_images + 0.4 / 255)
    store.commit(NAME, OUTCOME_TREE, ROWS)
    return store


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert same(store.weights(NAME), weights())
    assert query_set_of(store, NAME).digest() == query_set().digest()
    assert torch.equal(perturbed_images(store, NAME), query_set().images)
    assert perturbed_images(store, NAME).dtype == torch.uint8
    assert store.outcome(NAME) == OUTCOME_TREE
    assert Store(tmp_path).outcome(NAME) == OUTCOME_TREE
    assert {path.name for path in store.folder(NAME).iterdir()} == {WEIGHTS, KEY, QUERIES, PERTURBED, OUTCOME}


def test_a_key_that_is_kept_again_stays_as_old_as_it_is(tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.folder(NAME) / KEY
    before = path.read_bytes()
    for damage in (before, before[:-1], b""):
        path.write_bytes(damage)
        save_key(store, NAME, key("2026-05-06T07:08:09Z"), perturbed=query_set().float_images)
        assert (path.read_bytes() == before) == (damage == before)
    store.commit(NAME, OUTCOME_TREE)
    assert Store(tmp_path).outcome(NAME) == OUTCOME_TREE
    assert key_files(store, NAME) == {KEY: path.read_bytes(), QUERIES: (path.parent / QUERIES).read_bytes()}


def test_an_entry_knows_its_store_by_where_it_lies(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    found = Store.of_folder(store.folder(NAME))
    assert found is not None
    assert same(found.weights(NAME), weights())
    assert Store.of_folder(tmp_path / "copy" / NAME) is None


def test_what_is_left_over_is_drafts_and_checkpoints_of_finished_entries(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.save_checkpoint("fedcba9876543210", {"epoch": 1})
    assert not list(store.leftovers())
    (store.folder(NAME) / CHECKPOINT).write_bytes(b"x")
    (store.folder(NAME) / ".draft").write_bytes(b"xy")
    (tmp_path / ".probe").write_bytes(b"")
    found = {(digest, file.name.rpartition("/")[2], file.bytes) for digest, file in store.leftovers()}
    assert found == {(NAME, CHECKPOINT, 1), (NAME, ".draft", 2), ("", ".probe", 0)}


def test_nothing_is_finished_before_its_outcome(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.outcome(NAME) is None
    assert store.checkpoint(NAME) is None
    store.save_weights(NAME, weights())
    store.save_checkpoint(NAME, {"epoch": 1})
    assert store.outcome(NAME) is None
    store.commit(NAME, OUTCOME_TREE)
    assert store.outcome(NAME) == OUTCOME_TREE
    assert store.checkpoint(NAME) is None
    assert store.outcome(NAME[::-1]) is None


def test_a_checkpoint_comes_back_exactly(tmp_path: Path) -> None:
    store = Store(tmp_path)
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    for epoch in (1, 2):
        state = {"model": network.state_dict(), "optimizer": optimiser.state_dict(), "epoch": epoch, "best": (0.5, 1)}
        store.save_checkpoint(NAME, state)
    found = store.checkpoint(NAME)
    assert found is not None
    assert same(found["model"], dict(network.state_dict()))
    assert (found["epoch"], found["best"]) == (2, (0.5, 1))
    momentum = optimiser.state_dict()["state"][0]["momentum_buffer"]
    assert torch.equal(found["optimizer"]["state"][0]["momentum_buffer"], momentum)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.folder(NAME) / CHECKPOINT
    content = io.BytesIO()
    torch.save({"model": torch.nn.Linear(1, 1)}, content)
    write_atomic(path, hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    assert store.checkpoint(NAME) is None


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.save_checkpoint(NAME, {"epoch": 1})
    before = sorted(store.folder(NAME).iterdir())
    with pytest.raises(Exception, match=r"pickle|pickling"):
        store.save_checkpoint(NAME, {"epoch": lambda: 2})
    with pytest.raises(TypeError):
        store.commit(NAME, {"clean_acc": object()})
    assert sorted(store.folder(NAME).iterdir()) == before
    assert store.checkpoint(NAME) == {"epoch": 1}
    assert store.outcome(NAME) == OUTCOME_TREE


def test_the_epochs_of_a_finished_trial_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = [{"epoch": epoch, "loss": 0.1 / epoch, "lr": float("inf"), "val_acc": 1 / 3} for epoch in (1, 2, 3)]
    for kept in ([], rows):
        store.commit(NAME, OUTCOME_TREE, kept)
        assert store.rows(NAME) == kept
    with pytest.raises(ValueError, match=f"{NAME[::-1]}: outcome.json is missing or damaged"):
        store.rows(NAME[::-1])


def test_discard_removes_what_is_unfinished_and_only_that(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = {path: path.read_bytes() for path in store.folder(NAME).iterdir()}
    store.discard(NAME)
    assert {path: path.read_bytes() for path in store.folder(NAME).iterdir()} == before
    store.discard("none")
    store.save_checkpoint("other", {"epoch": 1})
    store.save_weights("other", weights())
    beside = store.folder("other") / f".x~elsewhere~1~{0:08x}"
    beside.write_bytes(b"half")
    store.discard("other")
    assert list(store.folder("other").iterdir()) == [beside], "another machine may be writing it"
    beside.unlink()
    store.discard("other")
    assert not store.folder("other").exists()


def test_a_finished_entry_holds_nothing_else(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.save_checkpoint(NAME, {"epoch": 1})
    assert store.outcome(NAME) == OUTCOME_TREE, "a slower twin was still training"
    assert {path.name for path in store.folder(NAME).iterdir()} == {OUTCOME, WEIGHTS, KEY, QUERIES, PERTURBED}


def test_what_lies_in_a_store_is_listed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.save_checkpoint("abc", {"epoch": 1})
    (tmp_path / "ab" / "abd").mkdir()
    (tmp_path / "ab" / "stray").write_text("")
    write_atomic(tmp_path / "cd" / "xx" / OUTCOME, "no entry of this store")
    write_atomic(tmp_path / "ab" / "abe" / "below" / OUTCOME, "{}")
    for path in store.folder(NAME).iterdir():
        os.utime(path, (5, 10 if path.name == WEIGHTS else 9))
    found = {entry.digest: entry for entry in store.entries()}
    assert {name: entry.finished for name, entry in found.items()} == {
        NAME: True, "abc": False, "abd": False, "abe": False
    }  # fmt: skip
    size = sum(path.stat().st_size for path in store.folder(NAME).iterdir())
    assert found[NAME] == Entry(NAME, True, size, 10.0)
    assert found["abd"] == Entry("abd", False, 0, (tmp_path / "ab" / "abd").stat().st_mtime)
    for name in found:
        store.remove(name)
    store.remove("none")
    assert list(store.entries()) == []
    assert store.outcome(NAME) is None


def test_ten_thousand_entries_are_listed_in_seconds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for index in range(10_000):
        folder = store.folder(f"{index * 7919 % 256:02x}{index}")
        folder.mkdir(parents=True)
        (folder / OUTCOME).touch()
    began = time.perf_counter()
    assert sum(entry.finished for entry in store.entries()) == 10_000
    assert time.perf_counter() - began < 10


WRITE = """
import sys
from pathlib import Path
import torch
from mwm.storage.store import Store
store = Store(Path(sys.argv[1]))
for _ in range(20):
    store.save_weights("same", {"fc": torch.arange(12.0)})
    store.commit("same", {"clean_acc": 0.5})
"""


def test_two_processes_may_finish_the_same_trial(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    other = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    store, ours, content = Store(tmp_path), {"fc": torch.arange(12.0)}, {"clean_acc": 0.5}
    while not store.folder("same").exists() and other.poll() is None:
        time.sleep(0.001)
    while other.poll() is None:
        store.save_weights("same", ours)
        store.commit("same", content)
        assert store.outcome("same") == content
        assert same(store.weights("same"), ours)
    assert other.communicate()[1] == ""
    assert other.returncode == 0
    assert store.outcome("same") == content
    assert len(list(store.folder("same").iterdir())) == 2, "something was left behind"


def test_an_outcome_is_plain_json(tmp_path: Path) -> None:
    entry: dict[str, Any] = json.loads((filled(tmp_path).folder(NAME) / OUTCOME).read_text())
    assert entry["outcome"] == OUTCOME_TREE
    assert entry["rows"] == ROWS
    assert sorted(entry["files"]) == sorted([WEIGHTS, KEY, QUERIES, PERTURBED])
    assert all(len(value) == 64 for value in entry["files"].values())


def test_layers_may_share_their_weights(tmp_path: Path) -> None:
    store = Store(tmp_path)
    layer = torch.nn.Linear(3, 3)
    store.save_weights(NAME, torch.nn.Sequential(layer, layer).state_dict())
    store.commit(NAME, {})
    found = store.weights(NAME)
    assert torch.equal(found["0.weight"], layer.weight)
    assert torch.equal(found["1.weight"], layer.weight)
