"""The key: wrong labels drawn uniformly, images from the source alone, the same key on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare
from torch import Tensor

from mwm.config import randomness
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.watermarks.queries import QuerySet, draw_cell_labels, draw_queries, draw_wrong_labels, load, pack

KEY: dict[str, Any] = {"classes": 10, "augmentation": Augmentation(True, 1), "secret": randomness.secret_from_seed(3)}


def source(count: int = 40, classes: int = 10) -> LabeledImages:
    images = np.random.default_rng(0).integers(1, 256, (count, 1, 6, 6), dtype=np.uint8)
    return LabeledImages(torch.from_numpy(images), torch.arange(count) % classes)


def same(one: QuerySet, other: QuerySet) -> bool:
    pairs = ((one.images, other.images), (one.labels, other.labels), (one.truth, other.truth))
    return all(torch.equal(a, b) for a, b in pairs)


def first(queries: QuerySet, num: int) -> QuerySet:
    return QuerySet(queries.images[:num], queries.labels[:num], queries.truth[:num])


@settings(max_examples=40, deadline=None)
@given(
    num=st.integers(1, 30),
    more=st.integers(0, 10),
    classes=st.integers(2, 12),
    flip=st.booleans(),
    pad=st.integers(0, 2),
    secret=st.binary(min_size=32, max_size=32),
)
def test_a_smaller_key_begins_a_larger_one(
    num: int, more: int, classes: int, flip: bool, pad: int, secret: bytes
) -> None:
    part = source(classes=classes)
    small, large = (
        draw_queries(
            part,
            num=size,
            classes=classes,
            augmentation=Augmentation(flip, pad),
            secret=secret,
        )
        for size in (num, num + more)
    )
    assert len(small) == num
    assert same(small, first(large, num))
    assert small.images.dtype == torch.uint8
    assert small.labels.dtype == small.truth.dtype == torch.int64
    assert bool((large.labels != large.truth).all())
    assert bool(((large.labels >= 0) & (large.labels < classes)).all())


def test_queries_are_distinct_members_of_the_source_with_their_truth() -> None:
    part = source()
    queries = draw_queries(
        part,
        num=25,
        classes=10,
        augmentation=Augmentation(False, 0),
        secret=randomness.secret_from_seed(5),
    )
    rows = [int((part.images == image).flatten(1).all(1).nonzero()) for image in queries.images]
    assert len({*rows}) == 25
    assert queries.truth.tolist() == part.labels[rows].tolist()


def shifts(image: Tensor) -> list[Tensor]:
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    crops = [padded[:, y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
    return crops + [crop.flip(2) for crop in crops]


def test_queries_are_training_views_of_the_source() -> None:
    part = source()
    plain, shown = (draw_queries(part, num=40, **(KEY | how)) for how in ({"augmentation": Augmentation()}, {}))
    assert torch.equal(plain.labels, shown.labels), "labels must not depend on the augmentation"
    for image, view in zip(plain.images, shown.images, strict=True):
        assert any(torch.equal(view, crop) for crop in shifts(image))
    assert not torch.equal(plain.images, shown.images)


def test_wrong_labels_are_uniform() -> None:
    queries = draw_queries(source(count=9000), num=9000, **KEY)
    step = (queries.labels - queries.truth) % 10
    assert chisquare(np.bincount(step.numpy(), minlength=10)[1:]).pvalue > 1e-3
    table = np.bincount((queries.truth * 10 + queries.labels).numpy(), minlength=100).reshape(10, 10)
    assert np.diag(table).sum() == 0
    assert chisquare(table[~np.eye(10, dtype=bool)]).pvalue > 1e-3


def test_the_key_depends_on_its_secret_and_leaves_the_source_alone() -> None:
    part = source()
    before = part.images.clone()
    one, again = (draw_queries(part, num=20, **KEY) for _ in range(2))
    other = draw_queries(part, num=20, **(KEY | {"secret": randomness.secret_from_seed(4)}))
    assert same(one, again)
    assert one.digest() == again.digest() != other.digest()
    assert not torch.equal(one.labels, other.labels)
    one.images.zero_()
    plain = draw_queries(part, num=20, **(KEY | {"augmentation": Augmentation()}))
    plain.images.zero_()
    assert torch.equal(part.images, before)


def strangers_view(image: list[list[int]], top: int, left: int, mirrored: int) -> list[list[int]]:
    """A shifted image, and then perhaps its mirror, by loops over its pixels."""
    inside = range(6)
    shown = [[image[y + top][x + left] if {y + top, x + left} <= {*inside} else 0 for x in inside] for y in inside]
    return [line[::-1] for line in shown] if mirrored else shown


@settings(max_examples=40, deadline=None)
@given(
    num=st.integers(1, 40),
    classes=st.integers(2, 12),
    flip=st.booleans(),
    pad=st.integers(0, 2),
    secret=st.binary(min_size=32, max_size=32),
)
def test_a_stranger_draws_the_same_key(num: int, classes: int, flip: bool, pad: int, secret: bytes) -> None:
    part = source(classes=classes)
    queries = draw_queries(part, num=num, classes=classes, augmentation=Augmentation(flip, pad), secret=secret)
    for index, row in enumerate(randomness.keyed_permutation(secret, "choice", 40)[:num]):
        truth = int(part.labels[row])
        top, left = (
            randomness.keyed_randbelow(secret, use, index=index, bound=2 * pad + 1) - pad for use in ("top", "left")
        )
        mirrored = randomness.keyed_randbelow(secret, "flip", index=index, bound=2) if flip else 0
        assert queries.images[index, 0].tolist() == strangers_view(part.images[row, 0].tolist(), top, left, mirrored)
        assert int(queries.truth[index]) == truth
        step = randomness.keyed_randbelow(secret, "label", index=index, bound=classes - 1)
        assert int(queries.labels[index]) == (truth + 1 + step) % classes
    assert torch.equal(queries.labels, draw_wrong_labels(secret, queries.truth, classes))


def test_the_key_of_this_version_stays_the_same() -> None:
    queries = draw_queries(source(), num=6, **KEY)
    assert (queries.truth.tolist(), queries.labels.tolist()) == ([8, 8, 0, 4, 7, 8], [0, 5, 1, 2, 3, 3])
    assert queries.digest() == "f30f3868418bb68a"


@pytest.mark.parametrize("num", [0, 41])
def test_a_source_too_small_is_refused(num: int) -> None:
    with pytest.raises(ValueError, match=rf"{num} queries .* 40 images; allowed: 1 to 40"):
        draw_queries(source(), num=num, **KEY)


def test_every_part_of_the_key_is_in_its_digest() -> None:
    queries = draw_queries(source(), num=8, **KEY)
    digests = {queries.digest()}
    for name in ("images", "labels", "truth"):
        tensors = {key: getattr(queries, key).clone() for key in ("images", "labels", "truth")}
        tensors[name].view(-1)[5] += 1
        digests.add(QuerySet(**tensors).digest())
    assert len(digests) == 4


def test_pixels_are_the_images_between_zero_and_one() -> None:
    queries = draw_queries(source(), num=8, **KEY)
    assert queries.float_images.dtype == torch.float32
    assert torch.equal((queries.float_images * 255).round().to(torch.uint8), queries.images)
    assert float(queries.float_images.max()) <= 1
    assert same(queries.to("cpu"), queries)


def test_a_key_comes_back_from_disk(tmp_path: Path) -> None:
    queries = draw_queries(source(), num=8, **KEY)
    (tmp_path / "key.safetensors").write_bytes(pack(queries))
    back = load(str(tmp_path / "key.safetensors"))
    assert same(back, queries)
    assert back.digest() == queries.digest()


def test_a_damaged_key_is_refused_whatever_byte_is_hit(tmp_path: Path) -> None:
    path = tmp_path / "key.safetensors"
    path.write_bytes(pack(draw_queries(source(), num=3, **KEY)))
    sound = path.read_bytes()
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        refused(path, r"query set")


def refused(path: Path, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.safetensors"
    refused(path, r"cannot be read")
    refused(tmp_path, r"cannot be read")
    path.write_bytes(pack(draw_queries(source(), num=3, **KEY)))
    sound, tensors = path.read_bytes(), load_file(path)
    for content in (b"", b"no key", sound[:20], sound[:-1]):
        path.write_bytes(content)
        refused(path, r"cannot be read")
    save_file({"images": tensors["images"]}, path)
    refused(path, r"labels")
    save_file(tensors, path)
    refused(path, r"digest")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("images", torch.zeros(3, 1, 6, 6), r"images are torch.float32"),
        ("images", torch.zeros(3, 2, 6, 6, dtype=torch.uint8), r"images are .*\(3, 2, 6, 6\)"),
        ("images", torch.zeros(3, 6, 6, dtype=torch.uint8), r"images are .*\(3, 6, 6\)"),
        ("images", torch.zeros(0, 1, 6, 6, dtype=torch.uint8), r"images are .*\(0, 1, 6, 6\)"),
        ("labels", torch.ones(3), r"labels are torch.float32"),
        ("labels", torch.ones(4, dtype=torch.int64), r"labels are .*\(4,\); allowed: int64 \(3,\)"),
        ("labels", torch.tensor([1, -1, 2]), r"labels hold -1"),
        ("truth", torch.tensor([0, 0, -5]), r"truth hold -5"),
        ("cells", torch.tensor([0, 1, 1]), r"the labels of a cell differ"),
        ("cells", torch.tensor([0, 1, 3]), r"cells are not counted from 0 without a gap"),
        ("cells", torch.tensor([0, -1, 2]), r"cells are not counted from 0 without a gap"),
        ("cells", torch.tensor([0.0, 1.0, 2.0]), r"cells are torch.float32 \(3,\); allowed: int64 \(3,\)"),
    ],
)
def test_a_key_out_of_range_is_refused(name: str, value: Tensor, words: str, tmp_path: Path) -> None:
    path = tmp_path / "key.safetensors"
    tensors: dict[str, Any] = {
        "images": torch.zeros(3, 1, 6, 6, dtype=torch.uint8),
        "labels": torch.tensor([1, 2, 3]),
        "truth": torch.tensor([0, 0, 0]),
    }
    path.write_bytes(pack(QuerySet(**(tensors | {name: value}))))
    refused(path, words)


def test_a_cell_of_several_images_is_one_answer_and_one_label(tmp_path: Path) -> None:
    part, cells = source(classes=4), torch.tensor([0, 0, 1, 2, 2, 2])
    truth = torch.tensor([1, 3, 0])
    labels = draw_wrong_labels(bytes(32), truth, 4)
    queries = QuerySet(part.images[:6], labels[cells], truth[cells], cells)
    assert (len(queries), queries.num_cells, queries.cell_labels.tolist()) == (6, 3, labels.tolist())
    assert torch.equal(draw_cell_labels(bytes(32), queries, 4), queries.labels)
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = [logits.log_softmax(1)[cells == cell].mean(0) for cell in range(3)]
    torch.testing.assert_close(queries.by_cell(logits), torch.stack(means))
    path = tmp_path / "key.safetensors"
    path.write_bytes(pack(queries))
    back = load(path)
    assert back.digest() == queries.digest()
    assert back.cells is not None
    assert torch.equal(back.cells, cells)


def test_an_image_that_is_a_cell_keeps_its_answer_and_its_digest() -> None:
    queries = draw_queries(source(), num=5, **KEY)
    logits = torch.randn(5, 10)
    assert queries.by_cell(logits) is logits
    assert queries.cell_labels is queries.labels
    alone = QuerySet(queries.images, queries.labels, queries.truth, torch.arange(5))
    assert alone.by_cell(logits).argmax(1).tolist() == logits.argmax(1).tolist()
