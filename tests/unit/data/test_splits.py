"""Data sets by role: who gets which image, and how images are shown."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import chisquare
from torch import Tensor

from mwm.config import randomness
from mwm.config.randomness import make_generator
from mwm.data import images as room
from mwm.data.datasets import Dataset
from mwm.data.images import Augmentation, augment, convert_images
from mwm.data.splits import LabeledImages, SplitSizes, class_counts, split


def pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def numbered(count: int) -> Dataset:
    """A data set whose image number i shows i, read-only as if shared between processes."""
    rows = np.arange(count)
    images = np.stack([rows % 256, rows // 256], axis=1).astype(np.uint8).reshape(count, 1, 1, 2)
    labels = rows % 7
    for array in (images, labels):
        array.setflags(write=False)
    return Dataset(images, labels, images[:5], labels[:5], classes=7, digest="")


def numbers(part: LabeledImages) -> list[int]:
    low, high = part.images.reshape(-1, 2).long().unbind(1)
    return (low + 256 * high).tolist()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(3, 400),
    sizes=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    disjoint=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_training_image_has_exactly_one_role(
    count: int, sizes: tuple[int, int], disjoint: float, seed: int
) -> None:
    dataset, how = numbered(count), SplitSizes(validation=sizes[0], queries=sizes[1], disjoint=disjoint, seed=seed)
    if sum(sizes) >= count:
        with pytest.raises(ValueError, match=rf"{count} training images; allowed: at most {count - 1}"):
            split(dataset, how, "cpu")
        return
    views = split(dataset, how, "cpu")
    roles = [views.owner, views.validation, views.queries, views.disjoint]
    assert sorted(number for role in roles for number in numbers(role)) == list(range(count))
    assert all(role.labels.tolist() == [number % 7 for number in numbers(role)] for role in [*roles, views.test])
    assert (len(views.validation), len(views.queries)) == sizes
    assert len(views.owner) >= 1
    assert len(views.disjoint) == int(disjoint * (count - sum(sizes)))
    assert numbers(views.test) == list(range(min(count, 5)))
    other = split(dataset, SplitSizes(validation=1, queries=sizes[1], seed=seed), "cpu")
    assert numbers(other.queries) == numbers(views.queries), "the query source depends on another size"


@given(count=st.integers(3, 20_000), disjoint=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_sizes_that_nobody_says_follow_from_the_size_of_the_data(count: int, disjoint: float) -> None:
    usual = SplitSizes(disjoint=disjoint)
    counts, aside = usual.counts(count), min(500, max(1, count // 10))
    assert (counts.queries, counts.validation, sum(counts)) == (aside, aside, count)
    filled = usual.filled(count)
    assert filled.is_filled
    assert not usual.is_filled
    assert filled.filled(3) == filled == SplitSizes(validation=aside, queries=aside, disjoint=disjoint)
    assert SplitSizes(validation=1, disjoint=disjoint).counts(count)[:2] == (aside, 1)
    assert SplitSizes(queries=2, disjoint=disjoint).counts(count)[:2] == (2, aside)


def test_a_split_that_says_no_sizes_is_dealt_by_them() -> None:
    dataset = numbered(300)
    usual, said = (split(dataset, how, "cpu") for how in (SplitSizes(), SplitSizes(validation=30, queries=30)))
    for role in ("owner", "validation", "queries", "test"):
        assert numbers(getattr(usual, role)) == numbers(getattr(said, role))


def test_every_class_is_counted_in_every_role() -> None:
    dataset, how = numbered(300), SplitSizes(queries=41, disjoint=0.3, seed=2)
    views, counts = split(dataset, how, "cpu"), class_counts(dataset, how)
    assert [*counts] == ["queries", "validation", "disjoint", "owner", "test"]
    for role, held in counts.items():
        assert held == torch.bincount(getattr(views, role).labels, minlength=7).tolist()
    with pytest.raises(ValueError, match="300 training images; allowed: at most 299 together"):
        class_counts(dataset, SplitSizes(queries=290))


def test_split_depends_on_its_seed_and_copies() -> None:
    dataset = numbered(300)
    first, again, other = (
        split(dataset, SplitSizes(validation=50, queries=50, seed=seed), "cpu") for seed in (1, 1, 2)
    )
    assert numbers(first.owner) == numbers(again.owner) != numbers(other.owner)
    assert first.owner.images.dtype == torch.uint8
    assert first.owner.labels.dtype == torch.int64
    for part in (first.owner, first.test):
        part.images.zero_()
        part.labels.zero_()
    assert numbers(split(dataset, SplitSizes(validation=50, queries=50, seed=1), "cpu").test) == [0, 1, 2, 3, 4]


def test_a_stranger_deals_the_same_images() -> None:
    views = split(numbered(300), SplitSizes(validation=50, queries=30, disjoint=0.5, seed=9), "cpu")
    order = randomness.keyed_permutation(randomness.secret_from_seed(9), "split", 300)
    dealt = [numbers(part) for part in (views.queries, views.validation, views.disjoint, views.owner)]
    assert dealt == [order[:30], order[30:80], order[80:190], order[190:]]
    assert order[:6] == [112, 113, 250, 110, 52, 72]


def test_a_large_data_set_is_dealt_at_once() -> None:
    dataset = numbered(73_000)
    began = time.perf_counter()
    split(dataset, SplitSizes(), "cpu")
    assert time.perf_counter() - began < 1, "a tenth of that on an idle machine"


def test_scaled_is_exact_at_every_level() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert room.to_float(levels).dtype == torch.float32
    assert room.to_float(levels).flatten().tolist() == (np.arange(256, dtype=np.float32) / np.float32(255)).tolist()


def test_foreign_images_take_the_victims_shape() -> None:
    colour = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=torch.uint8).view(4, 3, 1, 1)
    grey = convert_images(colour.expand(-1, -1, 6, 6), (1, 6, 6))
    assert grey[:, 0, 0, 0].tolist() == [76, 150, 29, 9]
    noise = torch.from_numpy(pixels(5, 1, 8, 8))
    assert torch.equal(convert_images(noise, (1, 8, 8)), noise)
    assert torch.equal(convert_images(noise, (3, 8, 8)), noise.expand(-1, 3, -1, -1))
    assert convert_images(noise[:0], (3, 4, 4)).shape == (0, 3, 4, 4)
    assert torch.equal(convert_images(noise.expand(5, 3, 8, 8), (3, 8, 8)), noise.expand(5, 3, 8, 8))


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 20, 20), (3, 5, 11)])
def test_resizing_agrees_with_pillow(shape: tuple[int, int, int]) -> None:
    images = pixels(3, 16, 16, 3)
    ours = convert_images(torch.from_numpy(images).permute(0, 3, 1, 2), shape).permute(0, 2, 3, 1).numpy()
    size = (shape[2], shape[1])
    theirs = np.stack([np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BILINEAR)) for x in images])
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs).max() <= 1, "Pillow rounds twice, we round once"
    many = torch.from_numpy(pixels(4099, 3, 2, 2))
    assert torch.equal(convert_images(many, shape)[[0, 4095, 4096]], convert_images(many[[0, 4095, 4096]], shape)), (
        "in pieces"
    )


def variants(image: Tensor, flip: bool, pad: int) -> list[Tensor]:
    """All ways to show one image, by plain loops over its pixels."""
    (height, width), shifts, shown = image.shape[1:], range(-pad, pad + 1), []
    for mirrored, down, right in product((False, True)[: 1 + flip], shifts, shifts):
        out = torch.zeros_like(image)
        for row, column in product(range(height), range(width)):
            y, x = row + down, column + right
            if 0 <= y < height and 0 <= x < width:
                out[:, row, width - 1 - column if mirrored else column] = image[:, y, x]
        shown.append(out)
    return shown


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)),
    flip=st.booleans(),
    pad=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
def test_augmented_images_are_mirrored_shifts(shape: tuple[int, int, int], flip: bool, pad: int, seed: int) -> None:
    images = torch.from_numpy(pixels(4, *shape, seed=seed))
    before = images.clone()
    shown = augment(images, Augmentation(flip=flip, pad=pad), make_generator(seed))
    assert (shown.dtype, shown.shape) == (images.dtype, images.shape)
    assert torch.equal(images, before)
    assert torch.equal(shown, augment(images, Augmentation(flip=flip, pad=pad), make_generator(seed)))
    for image, ours in zip(images, shown, strict=True):
        assert any(torch.equal(ours, variant) for variant in variants(image, flip, pad))
    if not flip and not pad:
        assert torch.equal(shown, images)


@pytest.mark.parametrize(("flip", "pad"), [(True, 0), (False, 1), (True, 1)])
def test_mirrors_and_shifts_are_uniform_and_independent(flip: bool, pad: int) -> None:
    image = torch.arange(1, 33, dtype=torch.uint8).reshape(2, 4, 4)
    names = {variant.numpy().tobytes(): row for row, variant in enumerate(variants(image, flip, pad))}
    many = image.expand(200 * len(names), -1, -1, -1)
    shown = augment(many, Augmentation(flip=flip, pad=pad), make_generator(0, "uniform"))
    drawn = np.array([names[out.tobytes()] for out in shown.numpy()])
    assert chisquare(np.bincount(drawn, minlength=len(names))).pvalue > 1e-3
    pairs = drawn[::2] * len(names) + drawn[1::2]
    assert chisquare(np.bincount(pairs, minlength=len(names) ** 2)).pvalue > 1e-3
