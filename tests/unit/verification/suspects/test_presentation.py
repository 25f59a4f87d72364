"""How images are shown: ranges, axes, colours, and what is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mwm.data.images import to_float
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
GREY = IMAGES / 255
BY_COLOUR = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
RANGES = {
    "0,1": GREY,
    "0,255": 255 * GREY,
    "[0, 255]": 255 * GREY,
    "-1,1": 2 * GREY - 1,
    "1,0": 1 - GREY,
    ".5/.5": 2 * GREY - 1,
    "127.5,0": 127.5 * (1 - GREY),
    ".1,.2,.3/.5": (GREY - np.array([0.1, 0.2, 0.3])[:, None, None]) / 0.5,
    "imagenet": (GREY - np.array([0.485, 0.456, 0.406])[:, None, None])
    / np.array([0.229, 0.224, 0.225])[:, None, None],
}


def test_the_usual_way_is_that_of_this_tool_to_the_bit() -> None:
    assert np.array_equal(UNIT_RANGE.present(IMAGES), to_float(torch.from_numpy(IMAGES)).numpy())


@pytest.mark.parametrize("range_", RANGES)
def test_every_range_is_its_formula(range_: str) -> None:
    shown = InputFormat(range_).present(IMAGES)
    assert shown.dtype == np.float32
    assert np.allclose(shown, RANGES[range_], atol=1e-5 * np.abs(RANGES[range_]).max())
    said = json.loads(json.dumps(InputFormat(range_).as_decimals(IMAGES).tolist()))
    assert np.array_equal(np.array(said, np.float32), shown)


@pytest.mark.parametrize(
    ("layout", "shown"),
    [
        ("nhwc", IMAGES.transpose(0, 2, 3, 1)),
        ("nchw-bgr", IMAGES[:, [2, 1, 0]]),
        ("nhwc-bgr", IMAGES[:, [2, 1, 0]].transpose(0, 2, 3, 1)),
    ],
)
def test_axes_and_colours(layout: str, shown: np.ndarray) -> None:
    way = InputFormat("0,255", layout)
    assert np.allclose(way.present(IMAGES), shown)
    assert way.as_decimals(IMAGES).shape == shown.shape
    assert way.shape((3, 4, 6)) == shown.shape[1:]
    assert way.other_axes.other_axes == way


def test_a_mean_is_that_of_its_colour_in_either_order() -> None:
    straight, swapped = (InputFormat(".1,.2,.3/.5", one).present(IMAGES) for one in ("nchw", "nchw-bgr"))
    assert np.array_equal(straight[:, ::-1], swapped)


@pytest.mark.parametrize(
    "range_", ["0-255", "255", "", "nan,1", "1,1", "0,1e300", ".1,.2/.5", "1/0", "cifar", "0,1,2", "inf,0", "a/b"]
)
def test_other_ranges_are_refused_in_one_line(range_: str) -> None:
    with pytest.raises(ValueError, match=r"^input_range: ") as told:
        InputFormat(range_)
    assert repr(range_) in str(told.value)
    assert "allowed: " in str(told.value)
    assert "\n" not in str(told.value)


def test_what_the_images_of_a_key_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="input_range: imagenet is for 3 channels, the key's images have 1"):
        InputFormat("imagenet").check(1)
    with pytest.raises(ValueError, match="layout: nhwc-bgr is for images in colour, the key's are grey"):
        InputFormat(layout="nhwc-bgr").check(1)
    InputFormat("mnist").check(3)
