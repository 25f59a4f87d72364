"""Colours: told apart by everybody, on white and on black, and by more than their colour."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.runner.reporting.figures.style import COLOURS, DASHES, GREY, MARKS, line_for, mark_for

Vector = NDArray[np.float64]

SEEN = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""What is seen of linear RGB without one kind of cone (Machado, Oliveira and Fernandes, 2009, severity 1)."""

XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = XYZ.sum(1)

APART = 15.0
"""Least distance in CIELAB (1976). 2.3 is just seen side by side (Mahy et al., 1994); marks stand apart and are small,
so it is six times that."""


def linear(colour: str) -> Vector:
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: Vector) -> Vector:
    ratio = XYZ @ rgb.clip(0, 1) / WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_conversion_is_that_of_the_standard() -> None:
    assert lab(linear("#FFFFFF")) == pytest.approx([100, 0, 0], abs=0.01)
    assert lab(linear("#FF0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


@pytest.mark.parametrize("eyes", SEEN)
def test_no_two_colours_are_one_to_anybody(eyes: str) -> None:
    seen = {colour: lab(np.array(SEEN[eyes]) @ linear(colour)) for colour in COLOURS}
    assert len(seen) == len(COLOURS)
    for one, other in combinations(COLOURS, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= APART, f"{one} and {other}"


def test_marks_are_seen_on_paper() -> None:
    for colour in (*COLOURS, GREY):
        brightness = float(XYZ[1] @ linear(colour))
        assert 1.05 / (brightness + 0.05) >= 2.2, f"{colour} is lost on white"
        if colour != "#000000":  # which is white there
            assert (brightness + 0.05) / (linear("#121212") @ XYZ[1] + 0.05) >= 3, f"{colour} is lost in the dark"


def test_what_has_the_same_colour_has_other_dashes_and_attacks_have_marks_of_their_own() -> None:
    looks = [tuple(line_for(place).values()) for place in range(len(COLOURS) * len(DASHES))]
    assert len({*looks}) == len(looks) == 21
    assert len({mark_for(place) for place in range(len(MARKS))}) == len(MARKS) == 12
