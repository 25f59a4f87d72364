"""Random numbers of an image: they follow from a seed and its pixels alone, on every machine and in every batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""The constants of SplitMix64 (Steele, Lea and Flood, 2014)."""

UNIFORM_BITS = 24
"""Random bits of a number between 0 and 1: as many as a float32 holds."""


@dataclass(frozen=True, eq=False, slots=True)
class ImageDraws:
    """A stream of random numbers for each of n images, which begins with its word (int64 n).

    The same image has the same numbers whenever it is seen, whatever else is in its batch. So nobody averages them out
    by asking again, and what was measured once is found again.
    """

    words: Tensor

    @staticmethod
    def of(images: Tensor, seed: Tensor) -> ImageDraws:
        """Those of images (n c h w in [0, 1]), whose grey levels count, by a seed (int64, of no axes)."""
        levels = (images * 255).round().long().flatten(1)
        places = torch.arange(levels.shape[1], device=levels.device) * 256
        return ImageDraws(mixed(mixed(levels + places + seed).sum(1) + seed))

    def further(self, number: int) -> ImageDraws:
        """Streams of their own, one for each number."""
        return ImageDraws(mixed(self.words + signed(GOLDEN * (number + 1))))

    def bits(self, count: int) -> Tensor:
        """So many random words of each image (int64 n count)."""
        numbers = torch.arange(1, count + 1, device=self.words.device)
        return mixed(self.words[:, None] ^ mixed(numbers * signed(GOLDEN)))

    def uniform(self, count: int) -> Tensor:
        """So many numbers of each image, uniform between 0 and 1 (float32 n count)."""
        return shifted(self.bits(count), 64 - UNIFORM_BITS).float().add(0.5).div(2**UNIFORM_BITS)

    def normal(self, count: int) -> Tensor:
        """So many standard normal numbers of each image (float32 n count; Box and Muller, 1958)."""
        radius, angle = self.further(0).uniform(count), self.further(1).uniform(count)
        found: Tensor = (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
        return found

    def integers(self, bound: int, count: int) -> Tensor:
        """So many whole numbers of each image, 0 to `bound` - 1 (int64 n count)."""
        found: Tensor = shifted(self.bits(count), 1) % bound
        return found


def mixed(words: Tensor) -> Tensor:
    """Words (int64) whose bits all depend on all bits of the given ones, one to one."""
    for places, factor in MIX:
        words = (words ^ shifted(words, places)) * signed(factor)
    return words ^ shifted(words, 31)


def signed(word: int) -> int:
    """The lowest 64 bits of a number, as PyTorch's int64 reads them."""
    return (word + 2**63) % 2**64 - 2**63


def shifted(words: Tensor, places: int) -> Tensor:
    """Words (int64) moved to the right, with zeros in front."""
    return (words >> places).bitwise_and(2 ** (64 - places) - 1)
