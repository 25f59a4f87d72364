"""Changes of images before a network sees them: what somebody who deploys a copy does to all that it is asked."""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mwm.config.spec import DISCRIMINATED, Count, Field, PositiveFloat, Shown, Strict, spec
from mwm.models.image_draws import ImageDraws

BLUR_REACH = 3
"""So many standard deviations from its centre a blur ends."""


@spec
class TransformRecord(ABC):
    """A change of images. A new one is a subclass that says what becomes of them; `draws`: it is random."""

    draws: ClassVar[bool] = False

    def check(self, path: str, channels: int) -> None:
        """Raise ValueError, in one line, for a change at `path` that images of so many channels cannot have."""
        del path, channels

    @abstractmethod
    def change(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        """Images (n c h w in [0, 1]) after it, of the same shape and on the same device; random ones need `draws`."""


@spec
class Jpeg(TransformRecord):
    """Written as JPEG and read again: baseline, colours at half the resolution, by libjpeg as most programs do.

    Lukas et al. (2022) try a `quality` of 95, 65 and 45.
    """

    kind: Literal["jpeg"] = "jpeg"
    quality: Annotated[int, Strict(), Field(ge=1, le=100), Shown("q={}", always=True)] = 65

    def check(self, path: str, channels: int) -> None:
        """JPEG knows grey and colour."""
        if channels not in (1, 3):
            raise ValueError(f"{path}: 'jpeg' is not allowed: images have {channels} channels; allowed: 1 or 3")

    def change(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        """One image after the other, on the CPU."""
        del draws
        pixels = (images * 255).round().clamp(0, 255).to("cpu", torch.uint8)
        read = np.stack([_as_jpeg(image, self.quality) for image in pixels.permute(0, 2, 3, 1).numpy()])
        return torch.from_numpy(read).to(images).view(len(images), *images.shape[2:], -1).permute(0, 3, 1, 2) / 255


@spec
class GaussianBlur(TransformRecord):
    """Convolved with a Gaussian of standard deviation `sigma` pixels, cut at three; the edge goes on outside.

    Lukas et al. (2022) try .5, .6 and .7.
    """

    kind: Literal["gaussian_blur"] = "gaussian_blur"
    sigma: Annotated[PositiveFloat, Field(le=100), Shown(always=True)] = 0.6

    def change(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        """Along the rows, then along the columns; by sums, so that an image is blurred alike in every batch."""
        del draws
        reach = math.ceil(BLUR_REACH * self.sigma)
        weights = [math.exp(-(at**2) / (2 * self.sigma**2)) for at in range(-reach, reach + 1)]
        for axis, border in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
            wide, blurred = F.pad(images, border, mode="replicate"), torch.zeros_like(images)
            for start, weight in enumerate(weights):
                blurred += weight / sum(weights) * wide.narrow(axis, start, images.shape[axis])
            images = blurred
        return images.clamp(0, 1)


@spec
class MedianFilter(TransformRecord):
    """Each pixel the median of the square around it, `size` pixels a side, in its channel; the edge goes on outside.

    Lukas et al. (2022) take 3 pixels.
    """

    kind: Literal["median_filter"] = "median_filter"
    size: Annotated[Count, Shown(always=True)] = 3

    def __post_init__(self) -> None:
        if self.size % 2 == 0:
            raise ValueError(f"size: {self.size} is not allowed: must be odd, so that there is a pixel in the middle")

    def change(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        """All squares at once."""
        del draws
        reach = self.size // 2
        wide = F.pad(images, (reach, reach, reach, reach), mode="replicate")
        return wide.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(4).median(4).values


@spec
class InputNoise(TransformRecord):
    """With Gaussian noise of a `deviation`, drawn anew for every image, and cut at 0 and 1.

    Lukas et al. (2022) try .01, .03, .05 and .1.
    """

    draws: ClassVar[bool] = True
    kind: Literal["input_noise"] = "input_noise"
    deviation: Annotated[PositiveFloat, Shown(always=True)] = 0.03

    def change(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        """One draw for each value."""
        assert draws is not None, "noise needs draws"
        noise = draws.normal(math.prod(images.shape[1:])).view(images.shape).to(images.dtype)
        return (images + self.deviation * noise).clamp(0, 1)


@spec
class BitDepth(TransformRecord):
    """Rounded to so many `levels`, evenly spaced from 0 to 1 (feature squeezing, Xu et al., 2018).

    16 levels are 4 bits. Lukas et al. (2022) try 16, 12 and 10.
    """

    kind: Literal["bit_depth"] = "bit_depth"
    levels: Annotated[int, Strict(), Field(ge=2, le=256), Shown(always=True)] = 16

    def change(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        """To the nearest level."""
        del draws
        return (images * (self.levels - 1)).round() / (self.levels - 1)


@spec
class Shift(TransformRecord):
    """Moved by up to so many `pixels` along each axis, drawn for every image; what comes in is black."""

    draws: ClassVar[bool] = True
    kind: Literal["shift"] = "shift"
    pixels: Annotated[Count, Shown(always=True)] = 1

    def change(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        """A window of its own into each image with a black border."""
        assert draws is not None, "a shift needs draws"
        (n, _, height, width), border, device = images.shape, self.pixels, images.device
        top, left = draws.integers(2 * border + 1, 2).unbind(1)
        rows = torch.arange(height, device=device) + top[:, None]
        columns = torch.arange(width, device=device) + left[:, None]
        image = torch.arange(n, device=device)[:, None, None]
        wide = F.pad(images, (border, border, border, border)).permute(0, 2, 3, 1)
        return wide[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """An image (h w c) after it was written as JPEG; a grey one has no third axis."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


InputTransform = Annotated[Jpeg | GaussianBlur | MedianFilter | InputNoise | BitDepth | Shift, *DISCRIMINATED]
"""A change of images; a union of all kinds."""


def transformed(images: Tensor, transforms: Iterable[TransformRecord], draws: ImageDraws | None = None) -> Tensor:
    """Images (n c h w in [0, 1]) after all transforms in turn, each with draws of its own."""
    for place, one in enumerate(transforms):
        images = one.change(images, None if draws is None else draws.further(place))
    return images
