"""Damage: no byte of the store is believed that is not as it was written, whatever a disk or a dying process does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mwm.storage.store import CHECKPOINT, KEY, OUTCOME, PERTURBED, QUERIES, WEIGHTS, Store
from mwm.trials.artifacts import key_files, perturbed_images
from mwm.trials.artifacts import query_set as query_set_of
from tests.unit.storage.test_filesystem import tiny_disk
from tests.unit.storage.test_store import NAME, OUTCOME_TREE, ROWS, filled, weights

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte flipped": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "middle byte flipped": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 64]) + data[len(data) // 2 + 1 :]
    ),
    "last byte flipped": lambda data: data[:-1] + bytes([data[-1] ^ 128]),
    "last byte lost": lambda data: data[:-1],
    "half lost": lambda data: data[: len(data) // 2],
    "empty": lambda data: data[:0],
    "longer": lambda data: data + b"\n",
    "zeros": lambda data: bytes(len(data)),
}
DAMAGED = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@DAMAGED
def test_a_damaged_checkpoint_is_none_and_is_replaced(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save_checkpoint(NAME, {"model": {"w": torch.zeros(4000)}, "epoch": 1})
    path = store.folder(NAME) / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    assert store.checkpoint(NAME) is None
    assert not path.exists()
    store.save_checkpoint(NAME, {"epoch": 2})
    assert store.checkpoint(NAME) == {"epoch": 2}


@DAMAGED
@pytest.mark.parametrize("name", [OUTCOME, WEIGHTS, KEY, QUERIES, PERTURBED])
def test_a_damaged_entry_is_not_finished(name: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.folder(NAME) / name
    path.write_bytes(damage(path.read_bytes()))
    unusable(store, name)
    store.discard(NAME)
    assert not store.folder(NAME).exists()
    assert filled(tmp_path).outcome(NAME) == OUTCOME_TREE


@pytest.mark.parametrize("name", [OUTCOME, WEIGHTS, KEY, QUERIES, PERTURBED])
def test_an_entry_that_lacks_a_file_is_not_finished(name: str, tmp_path: Path) -> None:
    store = filled(tmp_path)
    (store.folder(NAME) / name).unlink()
    unusable(store, name)
    (store.folder(NAME) / name).mkdir()
    unusable(store, name)


def unusable(store: Store, name: str) -> None:
    """Check that nothing is made of an entry one file of which is damaged, and that it is named."""
    assert store.outcome(NAME) is None
    uses: dict[str, Callable[[str], object]] = {
        WEIGHTS: store.weights,
        QUERIES: partial(query_set_of, store),
        KEY: partial(key_files, store),
    }
    uses |= {PERTURBED: partial(perturbed_images, store), OUTCOME: store.rows}
    for used in uses if name == OUTCOME else [name]:
        with pytest.raises(ValueError, match=f"^{store.folder(NAME)}: {name} is missing or damaged$"):
            uses[used](NAME)


def test_no_bit_of_an_outcome_can_change(tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.folder(NAME) / OUTCOME
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert store.outcome(NAME) is None
        path.write_bytes(changed.upper())  # 1e-09 is 1E-09: the same number, but not the same file
        assert store.outcome(NAME) is None
    path.write_bytes(content)
    assert store.outcome(NAME) == OUTCOME_TREE
    assert store.rows(NAME) == ROWS


@given(st.sampled_from([WEIGHTS, KEY, QUERIES, PERTURBED]), st.integers(0, 10**6))
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
    "entry", ["", "{", "[]", "3", "{}", '{"files": {}}', '{"files": {}, "outcome": {}, "rows": []}']
)
def test_an_outcome_without_its_seal_is_none(entry: str, tmp_path: Path) -> None:
    store = filled(tmp_path)
    (store.folder(NAME) / OUTCOME).write_text(entry)
    unusable(store, OUTCOME)


def test_what_was_kept_is_sealed_even_if_it_was_damaged_since(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save_weights(NAME, weights())
    path = store.folder(NAME) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    store.commit(NAME, OUTCOME_TREE)
    assert store.outcome(NAME) is None


DIE = """
import os, signal, sys
import torch
from mwm.storage.store import Store
from mwm.trials.artifacts import save_key
from tests.unit.storage.test_store import NAME, OUTCOME_TREE, ROWS, key, query_set, weights

left = None
def count(event, arguments):
    global left
    if left is not None and event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)

def train(store):
    store.save_checkpoint(NAME, {"epoch": 1, "w": torch.ones(9)})
    store.save_checkpoint(NAME, {"epoch": 2, "w": torch.ones(9)})
    asked = query_set()
    store.save_weights(NAME, weights())
    save_key(store, NAME, key(), perturbed=asked.float_images)
    store.commit(NAME, OUTCOME_TREE, ROWS)

def throw(store):
    store.save_checkpoint("abc", {"epoch": 1})
    store.discard("abc")
    store.remove(NAME)

train(Store(sys.argv[1] + "/warm"))
for work in (train, throw):
    status, moment = 9, 0
    while status == 9:
        root = f"{sys.argv[1]}/{work.__name__}{moment}"
        if work is throw:
            train(Store(root))
        child = os.fork()
        if child == 0:
            left = moment
            work(Store(root))
            os._exit(0)
        status, moment = os.waitpid(child, 0)[1], moment + 1
    assert status == 0, status
"""


@pytest.mark.slow
def test_a_process_may_die_at_any_moment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIE, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    seen, drafts = set(), 0
    for root in sorted(tmp_path.glob("t*")):
        store = Store(root)
        drafts += any("~" in path.name for path in root.rglob("*"))
        listed = {entry.digest: entry.finished for entry in store.entries()}
        outcome, state = store.outcome(NAME), store.checkpoint(NAME)
        seen.add((outcome is not None, state and state["epoch"]))
        assert outcome in (None, OUTCOME_TREE)
        assert listed.get(NAME, False) == (outcome is not None), "half removed, but listed as finished"
        assert state is None or torch.equal(state["w"], torch.ones(9))
        assert not any("~" in path.name for path in (root / NAME[:2]).rglob("*")), "a draft was left behind"
        store.discard(NAME)
        assert store.folder(NAME).exists() == bool(outcome)
        store.discard("abc")
        assert not (root / "ab" / "abc").exists()
    assert seen == {(False, None), (False, 1), (False, 2), (True, None)}
    assert drafts > 5


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", "64k") as disk:
        store = filled(disk)
        store.save_checkpoint("abc", {"epoch": 1})
        before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
        big = {"w": torch.zeros(30_000)}
        writes: list[Callable[[], None]] = [
            lambda: store.save_checkpoint("abc", big),
            lambda: store.save_checkpoint("other", big),
            lambda: store.save_weights("abc", big),
            lambda: store.commit(NAME, OUTCOME_TREE | {"error": "x" * 90_000}),
        ]
        for write in writes:
            with pytest.raises(OSError, match="No space left"):
                write()
            assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before
        assert store.outcome(NAME) == OUTCOME_TREE
        assert store.checkpoint("abc") == {"epoch": 1}
        assert not store.folder("other").exists()
