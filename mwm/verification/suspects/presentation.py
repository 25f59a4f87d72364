"""How images are shown to a suspect: the range of their numbers, and the order of their axes and colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYOUTS = ("nchw", "nhwc", "nchw-bgr", "nhwc-bgr")
"""Channels first or last; colours in the order red, green, blue, or the other way round."""

NORMALIZED = {
    "imagenet": ".485,.456,.406/.229,.224,.225",
    "cifar10": ".4914,.4822,.4465/.2470,.2435,.2616",
    "cifar100": ".5071,.4865,.4409/.2673,.2564,.2762",
    "mnist": ".1307/.3081",
}
"""Means and standard deviations of well-known data sets, by which images are often normalized."""

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
BOUNDS = re.compile(rf"({NUMBER}),({NUMBER})")
MEAN_STD = re.compile(rf"({NUMBER}(?:,{NUMBER})*)/({NUMBER}(?:,{NUMBER})*)")
ALLOWED = f"LOW,HIGH such as 0,255, MEAN/STD such as .5/.25 or with a number for each channel, {', '.join(NORMALIZED)}"

Levels = NDArray[np.float64]


@dataclass(frozen=True)
class InputFormat:
    """How a suspect wants its images.

    `range` says what becomes of a grey level x in [0, 1]. "LOW,HIGH" gives LOW + (HIGH - LOW) x, so "1,0" is inverted.
    "MEAN/STD" gives (x - MEAN) / STD, with one number or one for each channel, red first. A name is that of means and
    deviations in NORMALIZED. `layout` is one of LAYOUTS. Raises ValueError, in one line, for anything else.
    """

    range: str = "0,1"
    layout: str = "nchw"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: {self.layout!r} is not allowed; allowed: {', '.join(LAYOUTS)}")
        if len(self._levels) not in (1, 3):
            raise ValueError(f"input_range: {self.range!r} has {len(self._levels)} channels; allowed: 1 or 3")

    def check(self, channels: int) -> None:
        """Raise ValueError, in one line, for images of so many channels that cannot be shown so."""
        held = len(self._levels)
        if held not in (1, channels):
            raise ValueError(f"input_range: {self.range} is for {held} channels, the key's images have {channels}")
        if channels == 1 and self.layout.endswith("bgr"):
            raise ValueError(f"layout: {self.layout} is for images in colour, the key's are grey")

    def shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The axes of an image (c, h, w) as they are shown."""
        channels, height, width = shape
        return (height, width, channels) if self.layout.startswith("nhwc") else shape

    @property
    def other_axes(self) -> InputFormat:
        """The same with channels last in place of first, or first in place of last."""
        axes = {"nchw": "nhwc", "nhwc": "nchw"}[self.layout[:4]]
        return replace(self, layout=axes + self.layout[4:])

    def present(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images (uint8 n c h w) as they are shown: float32, n c h w or n h w c."""
        return self._shown(images, self._levels.astype(np.float32))

    def as_decimals(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The same as numbers that are written with as many digits as tell float32 numbers apart."""
        return self._shown(images, self._levels.astype(np.float32).astype(str).astype(float))

    @cached_property
    def _levels(self) -> Levels:
        """What each of 256 grey levels becomes (channels 256); one row where all channels are alike."""
        grey = np.arange(256) / 255
        said = NORMALIZED.get(self.range, self.range).replace(" ", "").strip("[]()")
        if found := BOUNDS.fullmatch(said):
            low, high = map(float, found.groups())
            return self._usable((low + (high - low) * grey)[None], low != high)
        if found := MEAN_STD.fullmatch(said):
            mean, std = (np.array([float(one) for one in part.split(",")]) for part in found.groups())
            if len({1, len(mean), len(std)}) <= 2 and std.all():
                return self._usable((grey - mean[:, None]) / std[:, None], True)
        return self._usable(grey, False)

    def _usable(self, levels: Levels, sound: bool) -> Levels:
        with np.errstate(over="ignore"):
            if not (sound and np.isfinite(levels.astype(np.float32)).all()):
                raise ValueError(f"input_range: {self.range!r} is not allowed; allowed: {ALLOWED}")
        return levels

    def _shown(self, images: NDArray[np.uint8], levels: NDArray[Any]) -> NDArray[Any]:
        found = levels[np.arange(images.shape[1])[:, None, None] % len(levels), images]
        if self.layout.endswith("bgr"):
            found = found[:, ::-1]
        if self.layout.startswith("nhwc"):
            found = found.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(found)


UNIT_RANGE = InputFormat()
"""What the networks of this tool take: float32 n c h w in [0, 1]."""


def usual_ranges(channels: int) -> Sequence[str]:
    """In which ranges suspects are often asked, the likeliest first, beside [0, 1]."""
    return ("0,255", "-1,1", "1,0", *(("imagenet", "cifar10", "cifar100") if channels == 3 else ("mnist",)))
