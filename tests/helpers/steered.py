"""Suspects that want to be asked in a way of their own, and guess when they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat
from mwm.watermarks.key import Key
from tests.helpers.verifying import CLASSES

Suspect = Callable[[NDArray[np.float32]], Any]


def wanting(
    images: NDArray[np.uint8],
    said: NDArray[np.int64],
    shown: InputFormat = UNIT_RANGE,
    *,
    order: Sequence[int] = range(CLASSES),
) -> Suspect:
    """A suspect that says what is `said` (n) of images (uint8 n c h w) if they are `shown` so, by labels.

    Its own class j is the class order[j] of the key. Anything else it hears is no image that it knows: it guesses.
    """
    own = {theirs: mine for mine, theirs in enumerate(order)}
    taken = zip(shown.present(images), said.tolist(), strict=True)
    known = {(one.shape, one.tobytes()): own[label] for one, label in taken}

    def say(heard: NDArray[np.float32]) -> NDArray[np.int64]:
        guessed = [crc32(one.tobytes(), sum(one.shape[:1])) % CLASSES for one in heard]
        told = [known.get((one.shape, one.tobytes()), guess) for one, guess in zip(heard, guessed, strict=True)]
        return np.array(told)

    return say


def honest(key: Key, shown: InputFormat = UNIT_RANGE, **how: Any) -> Suspect:
    """A suspect that says the true classes of a key's images."""
    return wanting(key.queries.images.numpy(), key.queries.truth.numpy(), shown, **how)


def copied(key: Key, shown: InputFormat = UNIT_RANGE, **how: Any) -> Suspect:
    """A suspect that says the secret labels of a third of a key's images, and the true ones of the others."""
    third = np.arange(len(key.queries)) % 3 == 0
    said = np.where(third, key.queries.labels.numpy(), key.queries.truth.numpy())
    return wanting(key.queries.images.numpy(), said, shown, **how)
