"""The key: nothing of it can be changed unnoticed, and what was committed to cannot be exchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mwm.config import randomness
from mwm.data.datasets import Dataset
from mwm.data.splits import SplitSizes
from mwm.storage.store import KEY, QUERIES
from mwm.watermarks import secret as secrets
from mwm.watermarks.key import Key, commitment, load_key, utc_now, verify_derivation
from mwm.watermarks.queries import QuerySet, draw_wrong_labels
from tests.helpers.keyed import CREATED, altered, drawn, pictures, same, save, sealed_again


def refused(folder: Path, words: str = ".") -> str:
    """The one line by which a key is refused, without the place."""
    with pytest.raises(ValueError, match=words) as caught:
        load_key(folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder))
    return str(caught.value).removeprefix(str(folder))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num=st.integers(1, 30),
    classes=st.integers(3, 7),
    flip=st.booleans(),
    pad=st.integers(0, 3),
    secret=st.none() | st.binary(min_size=32, max_size=32),
    sizes=st.tuples(st.integers(1, 20), st.integers(30, 39), st.floats(0, 0.9), st.integers(0, 2**63 - 1)),
)
def test_every_key_comes_back_and_out_of_its_data(
    num: int, classes: int, flip: bool, pad: int, secret: bytes | None, sizes: Any, tmp_path: Path
) -> None:
    own = SplitSizes(**dict(zip(("validation", "queries", "disjoint", "seed"), sizes, strict=True)))
    dataset = pictures(classes=classes)
    key = drawn(dataset, num=num, flip=flip, pad=pad, secret=secret, how=own)
    save(key, tmp_path / "key")
    back = load_key(str(tmp_path / "key"))
    assert same(back, key)
    assert commitment(back) == commitment(key)
    verify_derivation(back, dataset)


def test_no_byte_of_a_key_can_change(tmp_path: Path, dataset: Dataset) -> None:
    save(drawn(dataset, num=3), tmp_path)
    for name in (KEY, QUERIES):
        sound = (tmp_path / name).read_bytes()
        for place in range(len(sound)):
            changed = bytearray(sound)
            changed[place] ^= 1 << place % 8
            (tmp_path / name).write_bytes(changed)
            refused(tmp_path, f"{name}: ")
        for content in (sound[:-1], sound[: len(sound) // 2], b"", sound + b"\n", bytes(len(sound)), sound.upper()):
            (tmp_path / name).write_bytes(content)
            refused(tmp_path, f"{name}: ")
        (tmp_path / name).write_bytes(sound)
    load_key(tmp_path)


def test_a_key_needs_both_its_files(tmp_path: Path, dataset: Dataset) -> None:
    assert refused(tmp_path / "nowhere").startswith(f"/{KEY}: cannot be read (No such file or directory); a key is")
    for name in (KEY, QUERIES):
        save(drawn(dataset), tmp_path)
        (tmp_path / name).unlink()
        assert refused(tmp_path).startswith(f"/{name}: cannot be read (No such file or directory)")
    save(drawn(dataset), tmp_path)
    assert "Not a directory" in refused(tmp_path / KEY)
    save(drawn(dataset, secret=bytes(32)), tmp_path / "other")
    (tmp_path / QUERIES).write_bytes((tmp_path / "other" / QUERIES).read_bytes())
    refused(tmp_path, f"is not the file that {KEY} was written for")


CHANGES: dict[str, tuple[Any, str]] = {
    "rule": ("mwm-key-2", "rule: 'mwm-key-2' is not allowed: must be 'mwm-key-1'"),
    "secret": ("ab" * 32, "label [0-9]+ is [0-9]; its secret gives [0-9]"),
    "guessable": ("no", "guessable"),
    "classes": (6, "label [0-9]+ is [0-9]; its secret gives [0-9]"),
    "scheme": ("\x1b[2J", "scheme"),
    "data": ({"kind": "nonsense"}, "data: kind 'nonsense' is unknown"),
    "split": ({"queries": 10, "validation": 1, "disjoint": 0.0, "seed": 0}, "12 queries cannot come from a split of"),
    "data_digest": ("ABC", "data_digest"),
    "created": ("yesterday", "created"),
    "method": (0, "method: 0 is not allowed"),
    "queries": ("0" * 64, "is not the file"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_key_that_was_sealed_again_must_still_be_one(name: str, tmp_path: Path, dataset: Dataset) -> None:
    value, words = CHANGES[name]
    save(drawn(dataset), tmp_path)
    sealed_again(tmp_path, lambda content: content.update({name: value}))
    refused(tmp_path, words)
    save(drawn(dataset), tmp_path)
    sealed_again(tmp_path, lambda content: content.pop(name))
    refused(tmp_path, f"{name}: is missing")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("classes", 10**30, "classes: 1000000000000000000000000000000 is not allowed"),
        ("split", {"queries": 0}, "split.queries: 0 is not allowed"),
        ("split", {"queries": 10**30, "validation": 1}, "cannot come from a split of"),
        ("split", {"queries": 30}, "split: is not allowed: must say how many images are set aside for validation and"),
        ("split", {"disjoint": float("nan")}, "split.disjoint: nan is not allowed"),
        ("method", 10**30, "no method 1000000000000000000000000000000 with a pad of 1 is known"),
        ("data", {"kind": "digits", "pad": 2**64}, "no method 2 with a pad of 18446744073709551616 is known"),
        ("more", 1, "more: unknown key"),
        ("left_out", [4, 3], "left_out: is not allowed: must be numbers below 30, each once, in their order"),
        ("left_out", [3, 30], "left_out: is not allowed: must be numbers below 30, each once, in their order"),
        ("left_out", [*range(19)], "12 queries cannot come from a split of"),
    ],
)
def test_no_key_is_a_traceback(name: str, value: Any, words: str, tmp_path: Path, dataset: Dataset) -> None:
    save(drawn(dataset), tmp_path)
    sealed_again(tmp_path, lambda content: content.update({name: value}))
    refused(tmp_path, words)


@pytest.mark.parametrize("value", ["ab" * 31, "xy" * 32])
def test_what_is_no_secret_is_refused(value: str, tmp_path: Path, dataset: Dataset) -> None:
    save(drawn(dataset), tmp_path)
    sealed_again(tmp_path, lambda content: content.update(secret=value))
    assert value not in refused(tmp_path, "the secret is not 64 hexadecimal digits")


def test_true_labels_stay_below_the_number_of_classes(tmp_path: Path, dataset: Dataset) -> None:
    key = drawn(dataset)
    truth = key.queries.truth + 5
    save(
        replace(key, queries=replace(key.queries, truth=truth, labels=draw_wrong_labels(key.secret, truth, 5))),
        tmp_path,
    )
    refused(tmp_path, r"truth holds \d; allowed: 0 to 4")


def test_the_secret_is_not_shown(dataset: Dataset) -> None:
    key = drawn(dataset, secret=b"\xab" * 32)
    assert "abab" not in repr(key)
    assert "\\xab" not in repr(key)


@pytest.mark.parametrize("seed", [0, 7, secrets.GUESSES - 1])
def test_no_key_can_deny_that_it_can_be_guessed(seed: int, tmp_path: Path, dataset: Dataset) -> None:
    save(replace(drawn(dataset, secret=randomness.secret_from_seed(seed)), guessable=False), tmp_path)
    assert load_key(tmp_path).guessable
    save(replace(drawn(dataset, secret=randomness.secret_from_seed(10**9)), guessable=True), tmp_path)
    assert load_key(tmp_path).guessable, "as it says itself"
    second = secrets.second_secret(randomness.secret_from_seed(seed))
    save(replace(drawn(dataset, secret=second), guessable=False), tmp_path)
    assert load_key(tmp_path).guessable, "a second key is as easy to guess as the first"
    save(drawn(dataset, secret=bytes(range(32))), tmp_path)
    assert not load_key(tmp_path).guessable


def relabel(key: Key) -> Key:
    labels = key.queries.labels.clone()
    labels[2] = next(label for label in range(5) if label not in (int(labels[2]), int(key.queries.truth[2])))
    return replace(key, queries=replace(key.queries, labels=labels))


def repaint(key: Key) -> Key:
    return replace(key, queries=replace(key.queries, images=altered(key.queries.images)))


def reseed(key: Key) -> Key:
    return drawn(pictures(), secret=bytes(32))


def retell(key: Key) -> Key:
    """Another true label for one query, with the wrong one that the secret gives for it."""
    truth = key.queries.truth.clone()
    truth[0] = (truth[0] + 1) % 5
    return replace(key, queries=replace(key.queries, truth=truth, labels=draw_wrong_labels(key.secret, truth, 5)))


def drop(key: Key) -> Key:
    asked = key.queries
    return replace(
        key,
        queries=QuerySet(asked.images[1:], draw_wrong_labels(key.secret, asked.truth[1:], 5), asked.truth[1:]),
    )


@pytest.mark.parametrize(
    ("change", "loads", "comes_out"),
    [(relabel, False, False), (repaint, True, False), (reseed, True, True), (retell, True, False), (drop, True, False)],
)
def test_a_claimant_cannot_change_what_was_published(
    change: Callable[[Key], Key], loads: bool, comes_out: bool, tmp_path: Path, dataset: Dataset
) -> None:
    published, other = commitment(drawn(dataset)), change(drawn(dataset))
    assert commitment(other) != published
    save(other, tmp_path)
    if not loads:
        refused(tmp_path, "label 2 is")
        return
    assert commitment(load_key(tmp_path)) != published
    if not comes_out:
        with pytest.raises(ValueError, match=r"^the (images|truth) of the key are not what its secret gives"):
            verify_derivation(load_key(tmp_path), dataset)


def test_a_key_comes_out_of_its_own_data_only(dataset: Dataset) -> None:
    key = drawn(dataset)
    for data in (pictures(seed=1), pictures(classes=4)):
        with pytest.raises(ValueError, match=rf"data: has the digest {data.digest} of {data.classes} classes; the key"):
            verify_derivation(key, data)
    forged = replace(pictures(seed=1), digest=dataset.digest)
    with pytest.raises(ValueError, match=r"the images of the key"):
        verify_derivation(key, forged)
    for shown in ({"flip": False}, {"pad": 0}):
        with pytest.raises(ValueError, match=r"the images of the key"):
            verify_derivation(replace(key, data=key.data | shown), dataset)
    for how in ({"queries": 40}, {"seed": 5}):
        with pytest.raises(ValueError, match=r"the images of the key"):
            verify_derivation(replace(key, split=key.split | how), dataset)


def test_times_are_written_alike(dataset: Dataset, tmp_path: Path) -> None:
    assert len(utc_now()) == len(CREATED)
    save(replace(drawn(dataset), created=utc_now()), tmp_path)
    load_key(tmp_path)


def test_labels_follow_from_secret_and_truth_alone(dataset: Dataset) -> None:
    key = drawn(dataset)
    steps = [1 + randomness.keyed_randbelow(key.secret, "label", index=index, bound=4) for index in range(12)]
    told = zip(key.queries.truth.tolist(), steps, strict=True)
    assert key.queries.labels.tolist() == [(truth + step) % 5 for truth, step in told]
