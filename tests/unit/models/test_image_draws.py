"""Random numbers of images: by a plain loop with whole numbers, the same in every batch, of the right kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mwm.models.image_draws import ImageDraws, mixed

WORD = 2**64


def plain(word: int) -> int:
    """SplitMix64's last step, with numbers of any size."""
    word %= WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB % WORD
    return word ^ word >> 31


def images(n: int = 40, seed: int = 0) -> Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 2, 3, 5), generator=drawn) / 255


def draws(shown: Tensor, seed: int = 7) -> ImageDraws:
    return ImageDraws.of(shown, torch.tensor(seed))


def test_words_are_mixed_as_whole_numbers_are() -> None:
    drawn = torch.Generator().manual_seed(0)
    words = torch.randint(-(2**63), 2**63 - 1, (200,), generator=drawn)
    assert [word % WORD for word in mixed(words).tolist()] == [plain(word) for word in words.tolist()]


@pytest.mark.parametrize("seed", [0, 5, 2**63 - 1])
def test_the_word_of_an_image_is_that_of_a_plain_loop(seed: int) -> None:
    shown = images(3)
    for image, word in zip(shown, draws(shown, seed).words.tolist(), strict=True):
        levels = [round(255 * value) for value in image.flatten().tolist()]
        total = sum(plain(level + 256 * place + seed) for place, level in enumerate(levels))
        assert word % WORD == plain(total + seed)


def test_an_image_has_the_same_numbers_in_every_batch() -> None:
    shown, order = images(), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    kinds: list[Callable[[ImageDraws], Tensor]] = [
        lambda one: one.normal(9),
        lambda one: one.uniform(4),
        lambda one: one.further(3).integers(7, 5),
    ]
    for numbers in kinds:
        whole = numbers(draws(shown))
        parts = torch.cat([numbers(draws(shown[row : row + 1])) for row in order])
        assert torch.equal(parts, whole[order])


def test_seed_image_and_place_each_change_all_numbers() -> None:
    shown, other = images(), images(seed=1)
    first = draws(shown).uniform(8)
    near = shown.clone()
    near[:, 0, 0, 0] = 1 - near[:, 0, 0, 0]
    for changed in (draws(shown, 8), draws(other), draws(near), draws(shown).further(0), draws(shown).further(1)):
        assert (changed.uniform(8) != first).double().mean() > 0.99


def test_numbers_have_their_distributions() -> None:
    """Within four deviations of what n draws differ by."""
    n, found = 400 * 500, draws(images(400))
    normal, uniform, whole = found.normal(500).double(), found.uniform(500).double(), found.integers(5, 500)
    assert abs(normal.mean().item()) < 4 / n**0.5
    assert abs(normal.var().item() - 1) < 4 * (2 / n) ** 0.5
    assert abs((normal**4).mean().item() - 3) < 4 * (96 / n) ** 0.5
    assert abs(uniform.mean().item() - 0.5) < 4 * (1 / 12 / n) ** 0.5
    assert uniform.min() > 0
    assert uniform.max() < 1
    counts = torch.bincount(whole.flatten(), minlength=5).double()
    assert ((counts - n / 5) ** 2 / (n / 5)).sum() < 4 + 4 * 8**0.5
    neighbors = torch.corrcoef(torch.stack([normal.flatten()[:-1], normal.flatten()[1:]]))
    assert abs(neighbors[0, 1].item()) < 4 / n**0.5
