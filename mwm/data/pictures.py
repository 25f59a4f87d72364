"""One picture file as people see it: upright, opaque, and as bright as its kind of number says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow knows by their endings and cannot read by itself."""
SIXTEEN_BIT_FORMATS = {"JPEG2000", "PNG", "PPM"}
"""Formats whose numbers of more than 8 bits have 16, in whatever mode Pillow holds them."""
SIXTEEN_BIT = "16 bit"
WHITES = {SIXTEEN_BIT: (65535.0,), "I": (255.0, 65535.0, 2.0**31 - 1), "F": (1.0, 255.0, 65535.0)}
"""The numbers that may stand for white, by the kind of number."""


@dataclass(frozen=True)
class Picture:
    """What a picture file is, beside its pixels.

    `shape` is the width and height as people see it, `mode` Pillow's word for what the file holds. It is `turned` by
    its orientation, `composed` because it is transparent, or the first of several `frames`. For grey of more than 8
    bits, `depth` is the kind of its numbers, a key of `WHITES`, and `peak` the greatest one.
    """

    shape: tuple[int, int]
    mode: str
    turned: bool
    composed: bool
    frames: bool
    depth: str = ""
    peak: float = 0.0


@cache
def _endings() -> frozenset[str]:
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in known if kind in Image.OPEN and kind not in NO_PICTURES)


@cache
def _types() -> MimeTypes:
    return MimeTypes()  # those of Python alone: the tables of this machine may say anything


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its ending, be it one that Pillow opens or not."""
    ending = Path(name).suffix.lower()
    return ending in _endings() or (_types().guess_type(f"a{ending}", strict=False)[0] or "").startswith("image/")


def read_picture(path: str, size: int, background: str) -> tuple[NDArray[Any], Picture]:
    """A picture resized, composed on a `background`, and what its file is; ValueError, and whatever Pillow raises.

    The pixels are uint8 size size 3, or float32 size size for grey of more than 8 bits.
    """
    with Image.open(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
        frames, mode = getattr(image, "is_animated", False), image.mode
        image.load()  # which turns a TIFF
        upright = ImageOps.exif_transpose(image) if turned else image
        composed = upright.has_transparency_data
        told: dict[str, Any] = {"shape": upright.size, "mode": mode, "turned": turned, "frames": frames}
        if mode == "F" or mode.startswith("I"):
            plain = mode == "F" or (mode == "I" and image.format not in SIXTEEN_BIT_FORMATS)
            values, depth = _grey(upright, background), mode if plain else SIXTEEN_BIT
            fitted, peak = _resized(Image.fromarray(values), size), float(values.max())
            return fitted, Picture(depth=depth, peak=peak, composed=composed, **told)
        if composed:
            layer = upright.convert("RGBA")
            composed = layer.getchannel("A").getextrema() != (255, 255)
            upright = Image.alpha_composite(Image.new("RGBA", layer.size, background), layer)
        return _resized(upright.convert("RGB"), size), Picture(composed=composed, **told)


def to_eight_bits(values: NDArray[np.float32], white: float) -> NDArray[np.uint8]:
    """Grey (size size) as colour (size size 3), so that `white` becomes 255."""
    grey = (values * (255 / white)).round().clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _resized(image: Image.Image, size: int) -> NDArray[Any]:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _grey(image: Image.Image, background: str) -> NDArray[np.float32]:
    """Grey of more than 8 bits as floats; ValueError for numbers that no brightness has."""
    values = np.array(image, np.float32)
    if (clear := image.info.get("transparency")) is not None:
        values[values == clear] = 65535 if background == "white" else 0
    if not np.isfinite(values).all():
        raise ValueError("it holds numbers that are not finite")
    if values.min() < 0:
        raise ValueError(f"its values go from {values.min():g} to {values.max():g}, and there is nothing below black")
    return values
