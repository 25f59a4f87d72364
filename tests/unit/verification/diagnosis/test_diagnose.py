"""What is found out about a suspect that is asked wrongly, and what finding out costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mwm.config.spec import encode
from mwm.data.datasets import Npz
from mwm.data.readers import load_dataset
from mwm.verification.diagnosis.diagnose import OUTAGES, groups
from mwm.verification.diagnosis.probe import KEYS, OWN, make_probe
from mwm.verification.suspects.presentation import InputFormat
from mwm.verification.verify import verify
from mwm.watermarks.key import Key
from tests.helpers.http import Reply, answering
from tests.helpers.steered import Suspect, copied, honest, wanting
from tests.helpers.verifying import CLASSES, QUERIES, random_key

KEY = random_key(60)
SHUFFLED = (2, 0, 3, 1)
WAYS: dict[str, tuple[InputFormat, dict[str, Any], str]] = {
    "bytes": (InputFormat("0,255"), {}, "--input-range=0,255"),
    "signed": (InputFormat(".5/.5"), {}, "--input-range=-1,1"),
    "inverted": (InputFormat("1,0"), {}, "--input-range=1,0"),
    "normalized": (InputFormat("mnist"), {}, "--input-range=mnist"),
    "channels last": (InputFormat(layout="nhwc"), {}, "--layout nhwc"),
    "both": (InputFormat("0,255", "nhwc"), {}, "--input-range=0,255 --layout nhwc"),
    "order": (InputFormat(), {"order": SHUFFLED}, "--classes 2,0,3,1"),
    "all": (InputFormat("-1,1", "nhwc"), {"order": SHUFFLED}, "--input-range=-1,1 --layout nhwc --classes 2,0,3,1"),
}


def colourful(count: int = 60) -> Key:
    """A key of images in three colours."""
    images = np.random.default_rng(1).integers(0, 256, (count, 3, 6, 6), dtype=np.uint8)
    return replace(KEY, queries=replace(KEY.queries, images=torch.from_numpy(images)))


def reasons(key: Key, suspect: Suspect, **fields: Any) -> tuple[str, ...]:
    (one,) = verify(key, suspect, **fields).suspects
    assert one.decision == "inconclusive"
    assert one.tried % 50 == 0
    return one.reasons


@pytest.mark.parametrize("way", WAYS)
def test_the_way_that_fits_is_named_with_its_figures(way: str) -> None:
    shown, how, options = WAYS[way]
    (told,) = reasons(KEY, honest(KEY, shown, **how))
    before, _, figures = told.partition(": ")
    assert before == f"right with {options}"
    assert figures.startswith(f"50 of 50 of {KEYS}; as asked: ")


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        (InputFormat("0,255", "nchw-bgr"), "--input-range=0,255 --layout nchw-bgr"),
        (InputFormat("imagenet", "nhwc-bgr"), "--input-range=imagenet --layout nhwc-bgr"),
        (InputFormat("cifar10"), "--input-range=cifar10"),
        (InputFormat(".4914,.4822,.4465/.2470,.2435,.2616", "nhwc"), "--input-range=cifar10 --layout nhwc"),
    ],
)
def test_colours(shown: InputFormat, options: str) -> None:
    key = colourful()
    (told,) = reasons(key, honest(key, shown))
    assert told.startswith(f"right with {options}: 50 of 50")


def test_what_is_said_can_be_done() -> None:
    shown, how, _ = WAYS["all"]
    (told,) = reasons(KEY, copied(KEY, shown, **how))
    said = told.partition(": ")[0].removeprefix("right with ").replace("--input-range=", "--input-range ").split()
    fields: dict[str, Any] = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(said[::2], said[1::2], strict=True)
    }
    assert verify(KEY, copied(KEY, shown, **how), **fields).decision == "proven"


def test_orders_that_have_a_name() -> None:
    key = random_key(60, classes=12)
    images, labels = InputFormat().present(key.queries.images.numpy()), key.queries.truth.tolist()
    truth = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    text = sorted(map(str, range(12)))

    def ask(images: np.ndarray, order: list[int]) -> list[int]:
        return [order[truth[image.tobytes()]] for image in images]

    for how, order in (
        ("from-1", list(range(1, 13))),
        ("text", [text.index(str(one)) for one in range(12)]),
        ("number", [int(one) for one in text]),
    ):
        (told,) = verify(key, lambda images, order=order: ask(images, order), accuracy_bound=0.5).suspects[0].reasons
        assert told.startswith(f"right with --classes {how}: 50 of 50"), told


def test_a_wrong_option_is_found_out_too() -> None:
    (told,) = reasons(KEY, honest(KEY), input_range="0,255", classes="3,2,1,0")
    assert told.startswith("right without --input-range, --layout and --classes: 50 of 50")


def test_a_suspect_that_always_says_the_same() -> None:
    told = reasons(KEY, lambda images: np.full(len(images), 3), accuracy_bound=0.9)
    assert told[0] == "it answers class 3 to 50 of 50 images, whatever they show"
    assert told[1].startswith("none of 10 ways to show images, in any usual order of classes, gives the true class of")


def test_guesses_fit_nothing() -> None:
    for seed in range(20):
        key = random_key(40, seed=seed)
        told = reasons(key, wanting(key.queries.images.numpy()[:1], key.queries.truth.numpy()[:1]), accuracy_bound=0.6)
        assert told[0].startswith("none of 10 ways")
        assert "it may be a network for another task" in told[1]


def test_ways_that_are_not_answered_are_counted() -> None:
    def fickle(images: np.ndarray) -> np.ndarray:
        if images.max() > 1 or images.shape[1] != 1:
            raise RuntimeError("out of range")
        return np.zeros(len(images), int)

    told = reasons(KEY, fickle, accuracy_bound=0.9)
    assert "it gave no answer in 7 other ways, the last time: " in told[-1]
    assert "out of range" in told[-1]


def test_an_outage_ends_it() -> None:
    with answering(Reply({"labels": [0] * 60}), Reply(status=503)) as server:
        (one,) = verify(KEY, server.uri, accuracy_bound=0.9, retries=0).suspects
    assert len(server.asked) == 1 + OUTAGES
    assert one.reasons[-1].startswith(f"it gave no answer in {OUTAGES} other ways, the last time: {server.uri}")
    assert "503" in one.reasons[-1]


def test_nothing_is_asked_without_leave() -> None:
    asked = []

    def count(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return np.zeros(len(images), int)

    (one,) = verify(KEY, count, accuracy_bound=0.9, no_diagnosis=True).suspects
    assert (one.tried, asked) == (0, [60])
    verify(KEY, count, accuracy_bound=0.1)
    assert asked == [60, 60]


def test_it_keeps_to_the_size_of_a_request_and_is_asked_once(tmp_path: Path) -> None:
    asked = []

    def count(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return np.zeros(len(images), int)

    (one,) = verify(KEY, count, accuracy_bound=0.9, batch=20, output=tmp_path / "one").suspects
    assert max(asked) == 20
    assert one.tried == 500 == sum(asked) - 60


@pytest.fixture
def owner(tmp_path: Path) -> Key:
    """A key whose data lie on this machine."""
    drawn = np.random.default_rng(3)
    told: dict[str, Any] = {
        f"x_{part}": drawn.integers(0, 256, (80, 6, 6, 1), dtype=np.uint8) for part in ("train", "test")
    }
    told |= {f"y_{part}": np.arange(80) % CLASSES for part in ("train", "test")}
    np.savez(tmp_path / "own.npz", **told)
    data = Npz(path=str(tmp_path / "own.npz"))
    return replace(KEY, data=encode(data), data_digest=load_dataset(data).digest)


def test_the_owners_test_images_are_shown_where_they_are_at_hand(owner: Key) -> None:
    data = load_dataset(Npz(path=owner.data["path"]))
    probe = make_probe(owner)
    assert (probe.source, len(probe.truth)) == (OWN, 50)
    key, shown = owner.queries, InputFormat("0,255")
    images = np.concatenate([data.x_test, key.images.numpy()])
    said = np.concatenate([data.y_test, key.labels.numpy()])
    suspect = wanting(images, said, shown)
    (told,) = reasons(owner, suspect)
    assert told.startswith(f"right with --input-range=0,255: 50 of 50 of {OWN}; as asked: ")
    assert verify(owner, suspect, input_range="0,255").decision == "proven"
    weak = wanting(images, np.concatenate([data.y_test, (key.labels.numpy() + 1) % CLASSES]))
    rightly = reasons(owner, weak, accuracy_bound=0.9)
    assert rightly[0] == f"it is asked rightly: so it names the true class of 50 of 50 of {OWN}"


def test_other_data_than_the_keys_are_not_shown(owner: Key, tmp_path: Path) -> None:
    assert make_probe(replace(owner, data_digest="0" * 16)).source == KEYS
    (tmp_path / "own.npz").write_bytes(b"no archive")
    assert make_probe(owner).source == KEYS
    (tmp_path / "own.npz").unlink()
    assert make_probe(owner).source == KEYS
    absent = {"kind": "cifar10", "root": str(tmp_path / "absent"), "flip": True, "pad": 4}
    assert make_probe(replace(owner, data=absent)).source == KEYS
    assert not (tmp_path / "absent").exists(), "nothing is downloaded for it"


def test_a_small_key_shows_what_it_has() -> None:
    assert len(make_probe(random_key(QUERIES)).truth) == QUERIES


def test_the_ways_that_are_tried() -> None:
    first, second = groups(InputFormat("0,255", "nhwc-bgr"), 3)
    assert first[0] == InputFormat("0,255", "nhwc-bgr"), "as asked comes first"
    assert {one.layout for one in first} == {"nhwc", "nhwc-bgr"}
    assert {one.layout for one in second} == {"nchw", "nchw-bgr"}
    assert len(first) == len(second) == 2 * 7 == len(set(first))
    assert [len(group) for group in groups(InputFormat(), 1)] == [5, 5]
