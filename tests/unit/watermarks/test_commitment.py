"""The commitment to a key: what a stranger computes alike, and what it binds."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mwm.data.datasets import Dataset
from mwm.data.splits import SplitSizes
from mwm.storage.store import KEY
from mwm.watermarks.key import Key, commitment, load_key, to_files, utc_now, verify_derivation
from tests.helpers.keyed import altered, drawn, save, sealed_again

NAMES = ("ant", "bee", "cat", "dé", "e")


def strangers_commitment(key: Key) -> str:
    """The commitment, by plain loops over the bytes that its text names."""
    data, images = key.data, key.queries.images.shape
    asked, how = key.queries, key.split
    content = b"mwm-key-1" + key.secret
    numbers = [key.method, key.classes, how["validation"], how["queries"], how["seed"], data["flip"], data["pad"]]
    for number in (*numbers, *images, len(key.scheme)):
        content += int(number).to_bytes(8, "big")
    content += np.array(how["disjoint"], ">f8").tobytes() + f"{key.data_digest}{key.scheme}".encode("ascii")
    content += bytes(asked.images.flatten().tolist())
    for values in (asked.labels, asked.truth):
        for value in values.tolist():
            content += value.to_bytes(8, "big")
    if key.class_names:
        content += b"class_names"
    for name in key.class_names:
        content += len(name.encode()).to_bytes(8, "big") + name.encode()
    return hashlib.sha256(content).hexdigest()


def test_a_stranger_commits_alike(dataset: Dataset) -> None:
    for secret, flip in ((None, True), (bytes(range(32)), False)):
        key = drawn(dataset, secret=secret, flip=flip)
        for one in (key, replace(key, class_names=NAMES)):
            assert commitment(one) == strangers_commitment(one)
    assert {field.name for field in fields(SplitSizes)} == {"validation", "queries", "seed", "disjoint"}


def test_the_commitment_of_this_version_stays_the_same(dataset: Dataset) -> None:
    assert commitment(drawn(dataset)) == "ba0e207b4c6e7d46f5f360ba369705f7572e0c7644e2ea565d27e43caa620c63"


@pytest.mark.parametrize("name", [field.name for field in fields(Key) if field.name not in ("queries", "split")])
def test_what_a_commitment_binds(name: str, dataset: Dataset) -> None:
    key = drawn(dataset)
    others: dict[str, Any] = {"secret": bytes(32), "classes": 6, "data_digest": "0" * 16, "rule": "mwm-key-2"}
    others |= {"scheme": "trigger_set", "method": 99, "null": "exchangeable", "left_out": (3,), "class_names": NAMES}
    free = {"data": key.data | {"path": "moved.npz"}, "guessable": False, "created": utc_now()}
    changed = replace(key, **{name: (others | free)[name]})
    assert (commitment(changed) == commitment(key)) == (name in free)


def test_a_commitment_binds_every_query_and_the_split(dataset: Dataset) -> None:
    key, found = drawn(dataset), set()
    for name in ("images", "labels", "truth"):
        change: Any = {name: altered(getattr(key.queries, name))}
        asked = replace(key.queries, **change)
        found.add(commitment(replace(key, queries=asked)))
    for name in key.split:
        found.add(commitment(replace(key, split=key.split | {name: 0.5 if name == "disjoint" else 7})))
    shape = key.queries.images.transpose(2, 3)
    found.add(commitment(replace(key, queries=replace(key.queries, images=shape))))
    for shown in ({"flip": False}, {"pad": 0}):
        found.add(commitment(replace(key, data=key.data | shown)))
    assert len(found) == 10
    assert commitment(key) not in found


@pytest.mark.parametrize("change", [{"scheme": "trigger_set"}, {"method": 1}, {"flip": False}, {"pad": 0}], ids=str)
def test_what_is_sealed_again_no_longer_opens(change: dict[str, Any], tmp_path: Path, dataset: Dataset) -> None:
    save(drawn(dataset), tmp_path)
    sealed_again(tmp_path, lambda told: (told if {*change} & {*told} else told["data"]).update(change))
    assert commitment(load_key(tmp_path)) != commitment(drawn(dataset))


def test_names_of_classes_are_kept_and_bound_and_a_key_without_them_is_as_it_was(
    tmp_path: Path, dataset: Dataset
) -> None:
    plain = drawn(dataset)
    assert b"class_names" not in to_files(plain)[KEY]
    named = replace(plain, class_names=NAMES)
    save(named, tmp_path)
    assert load_key(tmp_path).class_names == NAMES
    orders = [(*NAMES[1:], NAMES[0]), ("antb", "ee", *NAMES[2:])]
    assert len({commitment(replace(plain, class_names=names)) for names in [(), NAMES, *orders]}) == 4
    verify_derivation(named, dataset)
    verify_derivation(named, replace(dataset, class_names=NAMES))
    with pytest.raises(ValueError, match="other names"):
        verify_derivation(named, replace(dataset, class_names=orders[0]))


@pytest.mark.parametrize(
    ("names", "said"),
    [(["ant", "bee"], "2 names for 5"), ([*"abcda"], "'a' is the name of 2"), ([*"abcd\n"], "printable")],
)
def test_names_that_cannot_be_those_of_the_classes_are_refused(
    names: list[str], said: str, tmp_path: Path, dataset: Dataset
) -> None:
    save(drawn(dataset), tmp_path)
    sealed_again(tmp_path, lambda told: told.update(class_names=names))
    with pytest.raises(ValueError, match=said) as caught:
        load_key(tmp_path)
    assert "\n" not in str(caught.value)
