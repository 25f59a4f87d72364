"""The benchmark of false claims in small: what a cheat gets by the binomial test alone, and what stops it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mwm.data.images import Augmentation
from mwm.watermarks.queries import draw_queries
from tests.benchmarks import bystanders, claims
from tests.benchmarks.claims import FORGERIES, QUERIES, WAYS, Finds, fitted, measured, searched

STOPS = dict(zip(FORGERIES, ("load", "recompute", "known data"), strict=True))


def test_false_claims_convict_and_are_stopped() -> None:
    claimed, sought = measured(models=6, epochs=8, images=400, secrets=[1, 50, 500], repeats=40, processes=0)
    assert [(one["way"], one["forgery"]) for one in claimed] == [(way, how) for way in WAYS for how in FORGERIES]
    for one in claimed:
        assert one["stopped by"] == STOPS[one["forgery"]]
        assert one["accused itself 0.001"] == 1, f"{one['way']}: the cheat did not even fool the binomial test"
    fooled = [one["accused others 0.001"] for one in claimed if one["way"] in ("mislabelled", "changed on five")]
    assert min(fooled) > 0.9, "models never seen are accused as well"
    for one in sought:
        for whom in claims.WHOM:
            low, _ = one[f"{whom} 0.001"]["interval"]
            assert low <= one["secrets"] * 1e-3, "a search gained more than its number of secrets"


def test_what_is_claimed_honestly_is_stopped_by_nothing() -> None:
    """A key drawn by the rule from the known data passes every check, so the checks refuse what is forged alone."""
    dataset, views = bystanders.grounds()
    secret = bytes(range(32))
    ground = claims.hunting_ground(100)
    finds = Finds(ground.images, (ground.labels + 1) % 10, ground.labels)
    key, shown = claims.forged("mislabelled", finds, secret)["secret's labels"]
    flip, pad = bystanders.DATA.flip, bystanders.DATA.pad
    honest = draw_queries(
        views.queries, num=QUERIES, classes=10, augmentation=Augmentation(flip=flip, pad=pad), secret=secret
    )
    assert claims.stopped(replace(key, queries=honest), dataset) == "nothing"
    assert claims.stopped(key, shown) == "recompute"


@pytest.mark.parametrize("free", [True, False])
def test_finds_are_placed_where_the_secret_wants_them(free: bool) -> None:
    chance = torch.Generator().manual_seed(0)
    truth = torch.randint(10, (400,), generator=chance)
    answers = (truth + torch.randint(1, 10, (400,), generator=chance)) % 10
    finds = Finds(torch.zeros(400, 1, 2, 2, dtype=torch.uint8), truth, answers)
    steps = torch.randint(1, 10, (QUERIES,), generator=chance)
    placed = fitted(finds, steps, free=free)
    assert torch.equal((placed.truth + steps) % 10, placed.answers)


def test_a_search_of_one_secret_is_no_search() -> None:
    """With one secret the best one's p-values are those of an innocent; with many, the best is surely small."""
    truth = np.arange(1000) % 10
    answers = np.stack([(truth + 1) % 10] * 2)
    p = np.array([searched(repeat, answers=answers, truth=truth, secrets=[1, 300]) for repeat in range(200)])
    assert np.array_equal(p[:, :, 0], p[:, :, 1]), "both models answer alike"
    assert (p[:, 0] <= 0.05).mean() < 0.12
    assert (p[:, 1] <= 0.05).all()
