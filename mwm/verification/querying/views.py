"""Views of query images: shifted and with noise, as the key's secret says, and fixed before anything is asked."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NOISE, MOST_SHIFT, SIDE_OF_SHIFT = 16, 4, 16
"""Grey levels by which a pixel differs at most; pixels of a shift at most, and of the side that each of them takes."""


def draw_views(images: NDArray[np.uint8], numbers: Sequence[int], *, secret: bytes, views: int) -> NDArray[np.uint8]:
    """So many views (n k c h w) of images (n c h w), which have these numbers in the key.

    View 0 is the image. View v of image i follows from bytes: SHAKE-256 of the HMAC-SHA-256 of "view/i/v". Let s be a
    sixteenth of the shorter side, rounded down, and 4 at most. The image is shifted down by s less the first byte
    modulo 2 s + 1, and to the right by s less the second byte modulo 2 s + 1; what comes in repeats the edge. Then each
    pixel, in the order c h w, gets an eighth of the next byte, rounded down, less 16, and is cut off below 0 and above
    255. So whoever has the secret finds the same views on every machine, and nobody else does.
    """
    height, width = images.shape[2:]
    most = min(height // SIDE_OF_SHIFT, width // SIDE_OF_SHIFT, MOST_SHIFT)
    shown = np.repeat(images[:, None], views, axis=1)
    for image, number in zip(shown, numbers, strict=True):
        wider = np.pad(image[0], ((0, 0), (most, most), (most, most)), mode="edge")
        for view in range(1, views):
            drawn = _bytes(secret, f"view/{number}/{view}", 2 + image[0].size)
            top, left = drawn[:2] % (2 * most + 1)
            noise = drawn[2:].reshape(image[0].shape) // 8 - NOISE
            image[view] = np.clip(wider[:, top : top + height, left : left + width] + noise, 0, 255)
    return shown


def _bytes(secret: bytes, message: str, count: int) -> NDArray[np.int64]:
    """So many numbers from 0 to 255, by secret and message alone."""
    begun = hmac.digest(secret, message.encode(), "sha256")
    return np.frombuffer(hashlib.shake_256(begun).digest(count), np.uint8).astype(np.int64)
