"""The store: what was kept comes back bit for bit, what is damaged or unfinished is as if it had never been."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mwm.queries import QuerySet
from mwm.store import CHECKPOINT, OUTCOME, PERTURBED, QUERIES, WEIGHTS, Store, put, writable

NAME = "0123456789abcdef"
OUTCOME_TREE = {"status": "done", "clean_acc": 0.5, "p_value": 1e-9, "oracle_calls": 12, "query_acc": None}


def weights(seed: int = 0) -> dict[str, Tensor]:
    """What a network may hold: floats, a number, a transposed view."""
    chance = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 3, generator=chance)
    return {"fc.weight": matrix.T, "fc.bias": torch.randn(3, generator=chance), "norm.count": torch.tensor(7)}


def query_set() -> QuerySet:
    """Three queries."""
    images = torch.arange(3 * 16, dtype=torch.uint8).view(3, 1, 4, 4)
    return QuerySet(images, torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2]))


def filled(root: Path) -> Store:
    """A store with one finished entry."""
    store = Store(root)
    asked = query_set()
    store.save_weights(NAME, weights())
    store.save_queries(NAME, asked, asked.pixels + 0.4 / 255)
    store.finish(NAME, OUTCOME_TREE, [])
    return store


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert same(store.weights(NAME), weights())
    assert store.queries(NAME).digest() == query_set().digest()
    assert torch.equal(store.perturbed(NAME), query_set().images)
    assert store.perturbed(NAME).dtype == torch.uint8
    assert store.outcome(NAME) == OUTCOME_TREE
    assert Store(tmp_path).outcome(NAME) == OUTCOME_TREE
    assert sorted(path.name for path in store.folder(NAME).iterdir()) == sorted([WEIGHTS, QUERIES, PERTURBED, OUTCOME])


def test_nothing_is_finished_before_its_outcome(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.outcome(NAME) is None
    assert store.checkpoint(NAME) is None
    store.save_weights(NAME, weights())
    store.save_checkpoint(NAME, {"epoch": 1})
    assert store.outcome(NAME) is None
    store.finish(NAME, OUTCOME_TREE, [])
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
        state = {"model": network.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch, "best": (0.5, 1)}
        store.save_checkpoint(NAME, state)
    found = store.checkpoint(NAME)
    assert found is not None
    assert same(found["model"], dict(network.state_dict()))
    assert (found["epoch"], found["best"]) == (2, (0.5, 1))
    momentum = optimiser.state_dict()["state"][0]["momentum_buffer"]
    assert torch.equal(found["optimiser"]["state"][0]["momentum_buffer"], momentum)


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -100])
def test_a_truncated_checkpoint_is_none_and_is_replaced(keep: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save_checkpoint(NAME, {"model": weights(), "epoch": 1})
    path = store.folder(NAME) / CHECKPOINT
    path.write_bytes(path.read_bytes()[:keep])
    assert store.checkpoint(NAME) is None
    assert not path.exists()
    store.save_checkpoint(NAME, {"epoch": 2})
    assert store.checkpoint(NAME) == {"epoch": 2}


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.folder(NAME) / CHECKPOINT
    content = io.BytesIO()
    torch.save({"model": torch.nn.Linear(1, 1)}, content)
    put(path, hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    assert store.checkpoint(NAME) is None


@pytest.mark.parametrize("place", [0, 40, 5000, -1])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(place: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save_checkpoint(NAME, {"model": {"w": torch.zeros(4000)}})
    path = store.folder(NAME) / CHECKPOINT
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert store.checkpoint(NAME) is None


@given(st.sampled_from([WEIGHTS, QUERIES, PERTURBED]), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_undoes_a_result(tmp_path: Path, name: str, place: int) -> None:
    store = filled(tmp_path)
    path = store.folder(NAME) / name
    content = bytearray(path.read_bytes())
    byte, bit = divmod(place % (8 * len(content)), 8)
    content[byte] ^= 1 << bit
    path.write_bytes(content)
    assert store.outcome(NAME) is None
    content[byte] ^= 1 << bit
    path.write_bytes(content)
    assert store.outcome(NAME) == OUTCOME_TREE
    path.unlink()
    assert store.outcome(NAME) is None


@pytest.mark.parametrize(
    "entry", ["", "{", "[]", "3", "{}", '{"files": {}}', '{"files": [], "outcome": {}}', '{"files": {}, "outcome": 3}']
)
def test_a_damaged_outcome_is_none(entry: str, tmp_path: Path) -> None:
    store = filled(tmp_path)
    (store.folder(NAME) / OUTCOME).write_text(entry)
    assert store.outcome(NAME) is None


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.save_checkpoint(NAME, {"epoch": 1})
    before = sorted(store.folder(NAME).iterdir())
    with pytest.raises(Exception, match=r"pickle|pickling"):
        store.save_checkpoint(NAME, {"epoch": lambda: 2})
    with pytest.raises(TypeError):
        store.finish(NAME, {"clean_acc": object()}, [])
    assert sorted(store.folder(NAME).iterdir()) == before
    assert store.checkpoint(NAME) == {"epoch": 1}
    assert store.outcome(NAME) == OUTCOME_TREE


def test_what_another_process_is_writing_is_not_taken_for_a_result(tmp_path: Path) -> None:
    store = filled(tmp_path)
    beside = store.folder(NAME) / f".other-{WEIGHTS}"
    beside.write_bytes(b"half")
    store.finish(NAME, OUTCOME_TREE, [])
    beside.unlink()
    assert store.outcome(NAME) == OUTCOME_TREE


WRITE = """
import sys
from pathlib import Path
import torch
from mwm.store import Store
store = Store(Path(sys.argv[1]))
for _ in range(60):
    store.save_weights("same", {"fc": torch.arange(12.0)})
    store.finish("same", {"clean_acc": 0.5}, [])
"""


def test_two_processes_may_finish_the_same_trial(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    other = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    store, ours, content = Store(tmp_path), {"fc": torch.arange(12.0)}, {"clean_acc": 0.5}
    while not store.folder("same").exists() and other.poll() is None:
        time.sleep(0.001)
    while other.poll() is None:
        store.save_weights("same", ours)
        store.finish("same", content, [])
        assert store.outcome("same") == content
        assert same(store.weights("same"), ours)
    assert other.communicate()[1] == ""
    assert other.returncode == 0
    assert store.outcome("same") == content
    assert len(list(store.folder("same").iterdir())) == 2, "something was left behind"


def test_a_store_can_be_written_or_says_why_not(tmp_path: Path) -> None:
    writable(tmp_path / "new" / "store")
    assert not any((tmp_path / "new" / "store").iterdir())
    file = tmp_path / "file"
    file.write_text("")
    for root in (file, file / "below", Path("/proc/none")):
        with pytest.raises(ValueError, match=f"^--storage: {root} cannot be written") as caught:
            writable(root)
        assert len(str(caught.value).splitlines()) == 1


def test_an_outcome_is_plain_json(tmp_path: Path) -> None:
    entry: dict[str, Any] = json.loads((filled(tmp_path).folder(NAME) / OUTCOME).read_text())
    assert entry["outcome"] == OUTCOME_TREE
    assert sorted(entry["files"]) == sorted([WEIGHTS, QUERIES, PERTURBED])
    assert all(len(value) == 64 for value in entry["files"].values())
