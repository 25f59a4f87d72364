"""Images on the host: what is read of them is what they are on a device, and the thread that reads ahead."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mwm.data.datasets import Dataset
from mwm.data.host import (
    AHEAD,
    PIECE,
    HostImages,
    Images,
    ahead,
    augmented,
    fitted,
    in_batches,
    joined,
    picked,
    select,
)
from mwm.data.images import Augmentation, convert_images
from mwm.data.splits import RoleSplits, SplitSizes, split, split_on_host

CPU = torch.device("cpu")
HOW = Augmentation(flip=True, pad=2)


def pixels(n: int = 30) -> Any:
    """Images that nobody may write to, as the arrays in Ray's object store are."""
    made = np.random.default_rng(0).integers(0, 256, (n, 3, 5, 4), dtype=np.uint8)
    made.flags.writeable = False
    return made


def both(n: int = 30) -> tuple[torch.Tensor, HostImages]:
    """The same images in a new order, on the device and on the host."""
    held, rows = pixels(n), np.random.default_rng(1).permutation(n)
    return torch.tensor(held[rows]), HostImages(held, rows, CPU)


def alike(one: Images, other: Images, size: int = 7) -> bool:
    lots = list(zip(in_batches(one, size), in_batches(other, size), strict=True))
    return one.shape == other.shape and all(torch.equal(*lot) for lot in lots)


def shares_pixels(one: Images, other: Images) -> bool:
    return isinstance(one, HostImages) and isinstance(other, HostImages) and one.pixels is other.pixels


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 40), st.integers(1, 50))
def test_all_images_in_their_order(n: int, size: int) -> None:
    resident, hosted = both(n)
    assert len(resident) == len(hosted)
    assert alike(resident, hosted, size)
    assert torch.equal(hosted.copied(), resident)


def test_images_by_their_numbers() -> None:
    resident, hosted = both()
    order = torch.randperm(30, generator=seeded())
    lots = list(picked(hosted, order, 8))
    assert [len(lot) for lot in lots] == [8, 8, 8, 6]
    assert torch.equal(torch.cat(lots), resident[order])
    assert torch.equal(torch.cat(list(picked(resident, order, 8))), resident[order])
    assert torch.equal(hosted[order[:5]], resident[order[:5]])


@pytest.mark.parametrize("rows", [torch.tensor([4, 4, 29, 0]), torch.arange(30) % 3 == 1], ids=["numbers", "marks"])
@pytest.mark.parametrize("shown", [False, True])
def test_a_part_of_the_images(rows: torch.Tensor, shown: bool) -> None:
    how = HOW if shown else Augmentation()
    resident, hosted = (augmented(images, how, seeded()) for images in both())
    chosen = select(hosted, rows)
    assert alike(select(resident, rows), chosen)
    assert shares_pixels(chosen, hosted)


@pytest.mark.parametrize("how", [HOW, Augmentation(pad=1), Augmentation(flip=True), Augmentation()], ids=str)
def test_images_are_shown_in_the_views_that_they_have_on_a_device(how: Augmentation) -> None:
    resident, hosted = both()
    shown = augmented(hosted, how, seeded())
    assert alike(augmented(resident, how, seeded()), shown)
    assert shares_pixels(shown, hosted)
    assert alike(resident, shown) is not bool(how), "this augmentation changes nothing"


def test_several_views_of_all_images() -> None:
    resident, hosted = both()
    lots = [[augmented(images, HOW, seeded(n)) for n in range(3)] for images in (resident, hosted)]
    assert alike(joined(lots[0]), joined(lots[1]))
    assert alike(joined([resident, resident]), joined([hosted, hosted]))
    assert len(joined(lots[1])) == 90


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 8, 7)])
def test_foreign_images_are_fitted_in_pieces(shape: tuple[int, int, int]) -> None:
    many = np.tile(pixels(), (40, 1, 1, 1))
    assert len(many) > PIECE
    assert torch.equal(torch.from_numpy(fitted(many, shape)), convert_images(torch.from_numpy(many), shape))


def test_foreign_images_of_the_right_shape_are_not_copied() -> None:
    held = pixels()
    assert fitted(held, (3, 5, 4)) is held
    assert torch.equal(convert_images(torch.tensor(held), (3, 5, 4)), torch.tensor(held)), "fitting would change them"


def dataset() -> Dataset:
    labels = np.arange(30) % 4
    return Dataset(pixels(), labels, pixels()[:9], labels[:9], 4, "digest")


def test_roles_are_the_same_on_the_host() -> None:
    data, how = dataset(), SplitSizes(validation=4, queries=6, disjoint=0.3, seed=1)
    resident, hosted = split(data, how, "cpu"), split_on_host(data, how, "cpu")
    views: tuple[RoleSplits[Any], ...] = (resident, hosted)
    for role in ("owner", "validation", "disjoint", "test"):
        ours, theirs = (getattr(one, role) for one in views)
        assert alike(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert theirs.images.pixels is (data.x_test if role == "test" else data.x_train), "pixels were copied"
    assert torch.equal(resident.queries.images, hosted.queries.images)
    assert torch.equal(resident.queries.labels, hosted.queries.labels)


def test_a_thread_is_so_many_ahead_and_keeps_the_order() -> None:
    made: list[tuple[int, str]] = []

    def make(number: int) -> int:
        made.append((number, threading.current_thread().name))
        return number * number

    results = ahead(make, range(20))
    assert next(results) == 0
    until = time.monotonic() + 10
    while len(made) <= AHEAD and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.05)  # for one more, if it were made
    assert [number for number, _ in made] == [*range(AHEAD + 1)], "as many as are wanted ahead, and no more"
    assert list(results) == [number * number for number in range(1, 20)]
    assert {name for _, name in made} == {"batches_0"}


def test_what_a_thread_raises_is_raised_where_it_is_waited_for() -> None:
    def make(number: int) -> int:
        if number == 4:
            raise ValueError("4 cannot be read")
        return number

    seen: list[int] = []
    with pytest.raises(ValueError, match="4 cannot be read"):
        seen.extend(ahead(make, range(9)))
    assert not reading()


def test_a_thread_ends_with_an_iteration_that_is_left_early() -> None:
    results = ahead(abs, range(1000))
    assert next(results) == 0
    assert reading()
    results.close()
    assert not reading()


def reading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]
