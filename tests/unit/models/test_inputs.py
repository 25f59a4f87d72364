"""Changes of images: each against PIL or a plain loop, in its range, and refused where it cannot be."""

from __future__ import annotations

import io
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mwm.config.spec import decode
from mwm.models.image_draws import ImageDraws
from mwm.models.inputs import (
    BitDepth,
    GaussianBlur,
    InputNoise,
    InputTransform,
    Jpeg,
    MedianFilter,
    Shift,
    transformed,
)

EVERY = [Jpeg(), GaussianBlur(), MedianFilter(), InputNoise(), BitDepth(), Shift(pixels=2)]


def some(n: int = 5, channels: int = 3, *, seed: int = 0, side: int = 8) -> Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, side, side + 1), generator=drawn) / 255


def draws(images: Tensor, seed: int = 3) -> ImageDraws:
    return ImageDraws.of(images, torch.tensor(seed))


def changed(one: Any, images: Tensor, seed: int = 3) -> Tensor:
    found: Tensor = one.change(images, draws(images, seed))
    return found


def test_every_kind_is_tested() -> None:
    assert {type(one) for one in EVERY} == set(get_args(get_args(InputTransform)[0]))


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.kind)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_images(one: Any, channels: int) -> None:
    images = some(channels=channels)
    before = images.clone()
    found = changed(one, images)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(images, before), "the images were changed in their place"
    assert not torch.equal(found, images)
    assert torch.equal(changed(one, images), found)
    assert torch.equal(changed(one, images[2:3]), found[2:3]), "an image depends on its batch"
    assert torch.equal(changed(one, images, seed=4), found) != one.draws


@pytest.mark.parametrize("quality", [95, 65, 45, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_pil(quality: int, channels: int) -> None:
    images = some(channels=channels, side=17)
    found = changed(Jpeg(quality=quality), images) * 255
    for image, own in zip(images, found, strict=True):
        pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality)
        read = torch.from_numpy(np.array(Image.open(file))).view(*pixels.shape).permute(2, 0, 1)
        torch.testing.assert_close(own, read.float(), atol=1e-3, rtol=0)


def inside(place: int, side: int) -> int:
    """The pixel that stands for one outside: the nearest."""
    return min(max(place, 0), side - 1)


@pytest.mark.parametrize("sigma", [0.5, 0.7, 4.0])
def test_blur_is_that_of_a_plain_loop(sigma: float) -> None:
    images = some(1, 2, side=5)
    found = changed(GaussianBlur(sigma=sigma), images)
    reach = math.ceil(3 * sigma)
    line = [math.exp(-(at**2) / 2 / sigma**2) for at in range(-reach, reach + 1)]
    _, channels, height, width = images.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                total = 0.0
                for dy in range(-reach, reach + 1):
                    for dx in range(-reach, reach + 1):
                        weight = line[dy + reach] * line[dx + reach] / sum(line) ** 2
                        total += weight * images[0, c, inside(y + dy, height), inside(x + dx, width)].item()
                assert found[0, c, y, x].item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_the_median_is_that_of_a_plain_loop(size: int) -> None:
    images = some(2, 2, side=5)
    found = changed(MedianFilter(size=size), images)
    around = range(-(size // 2), size // 2 + 1)
    n, channels, height, width = images.shape
    for place in np.ndindex(n, channels, height, width):
        i, c, y, x = place
        values = [images[i, c, inside(y + dy, height), inside(x + dx, width)].item() for dy in around for dx in around]
        assert found[place].item() == sorted(values)[size**2 // 2]


@pytest.mark.parametrize("levels", [2, 10, 12, 16, 256])
def test_the_grid_of_levels_is_reached_and_never_left(levels: int) -> None:
    images = torch.arange(256).view(1, 1, 16, 16) / 255
    found = changed(BitDepth(levels=levels), images)
    grid = [level / (levels - 1) for level in range(levels)]
    assert sorted({round(value * (levels - 1)) for value in found.flatten().tolist()}) == [*range(levels)]
    torch.testing.assert_close(torch.tensor(sorted({*found.flatten().tolist()})), torch.tensor(grid))
    nearest = [min(abs(value - one) for one in grid) for value in images.flatten().tolist()]
    torch.testing.assert_close((found - images).abs().flatten(), torch.tensor(nearest), atol=1e-6, rtol=0)


@pytest.mark.parametrize("deviation", [0.01, 0.1])
def test_noise_has_its_deviation_and_is_cut(deviation: float) -> None:
    grey = 0.4 + 0.2 * some(200)
    noise = (changed(InputNoise(deviation=deviation), grey) - grey).double()
    count = noise.numel()
    assert abs(noise.mean().item()) < 4 * deviation / count**0.5
    assert noise.std().item() == pytest.approx(deviation, rel=4 / (2 * count) ** 0.5)
    assert not torch.equal(noise[0], noise[1]), "two images have the same noise"
    wild = changed(InputNoise(deviation=3.0), some())
    assert [wild.min().item(), wild.max().item()] == [0, 1]


def test_images_are_shifted_over_black_each_on_its_own() -> None:
    images = some(300, side=6) / 2 + 0.5
    found, moves = changed(Shift(pixels=2), images), set()
    for image, own in zip(images, found, strict=True):
        wide = torch.zeros(3, 10, 11)
        wide[:, 2:8, 2:9] = image
        windows = {(y, x): wide[:, y : y + 6, x : x + 7] for y in range(5) for x in range(5)}
        (move,) = [place for place, window in windows.items() if torch.equal(window, own)]
        moves.add(move)
    assert len(moves) == 25, "every shift is drawn"


def test_transforms_are_one_after_another_with_draws_of_their_own() -> None:
    images = some()
    given = draws(images)
    both = transformed(images, (InputNoise(), BitDepth(), InputNoise()), given)
    step = InputNoise().change(images, given.further(0))
    step = BitDepth().change(step, None)
    assert torch.equal(both, InputNoise().change(step, given.further(2)))
    assert torch.equal(transformed(images, ()), images)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"kind": "jpeg", "quality": 0}, r"quality: 0 is not allowed: must be greater than or equal to 1$"),
        ({"kind": "jpeg", "quality": 101}, r"quality: 101 is not allowed: must be less than or equal to 100$"),
        ({"kind": "gaussian_blur", "sigma": 0.0}, r"sigma: 0.0 is not allowed: must be greater than 0$"),
        ({"kind": "median_filter", "size": 4}, r"size: 4 is not allowed: must be odd"),
        ({"kind": "input_noise", "deviation": -0.1}, r"deviation: -0.1 is not allowed: must be greater than 0$"),
        ({"kind": "bit_depth", "levels": 1}, r"levels: 1 is not allowed: must be greater than or equal to 2$"),
        ({"kind": "bit_depth", "levels": 257}, r"levels: 257 is not allowed: must be less than or equal to 256$"),
        ({"kind": "shift", "pixels": 0}, r"pixels: 0 is not allowed: must be greater than or equal to 1$"),
        ("mirror", r"kind 'mirror' is unknown; allowed: 'jpeg', 'gaussian_blur', 'median_filter', 'input_noise'"),
    ],
)
def test_wrong_values_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        decode(InputTransform, tree)
    assert "\n" not in str(refused.value)


def test_jpeg_is_refused_for_two_channels() -> None:
    Jpeg().check("here", 1)
    Jpeg().check("here", 3)
    with pytest.raises(ValueError, match=r"^here: 'jpeg' is not allowed: images have 2 channels; allowed: 1 or 3$"):
        Jpeg().check("here", 2)
