"""The benchmark of false claims in small: what a claimant gets by the exact test alone, and what stops it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mwm.data.images import Augmentation
from mwm.watermarks.evidence import weigh
from mwm.watermarks.queries import draw_queries
from tests.benchmarks import bystanders, claims
from tests.benchmarks.claims import FORGERIES, WAYS, Finds, fitted, measured
from tests.benchmarks.searches import QUERIES, WHOM, p_values, rank_table, searched

STOPS = dict(zip(FORGERIES, ("load", "recompute", "known data"), strict=True))


def test_false_claims_prove_and_are_stopped() -> None:
    claimed, sought = measured(models=6, epochs=8, images=400, secrets=[1, 50, 500], repeats=40, processes=0)
    assert [(one["way"], one["forgery"]) for one in claimed] == [(way, how) for way in WAYS for how in FORGERIES]
    for one in claimed:
        assert one["stopped by"] == STOPS[one["forgery"]]
        assert one["proven itself 0.001"] == 1, f"{one['way']}: the claim did not even hold by the exact test"
    held = [one["proven others 0.001"] for one in claimed if one["way"] in ("mislabelled", "changed on five")]
    assert min(held) > 0.9, "it holds against models never seen as well"
    assert len(sought) == 2 * 2 * 3
    for one in sought:
        for whom in WHOM:
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
    """With one secret the p-values are those of an independent model; with many, the best is surely small."""
    truth = np.arange(1000) % 10
    scores = np.random.default_rng(0).normal(size=(1000, 10))
    scores[np.arange(1000), truth] = -9
    ranks, answers = np.stack([rank_table(scores, truth)] * 2), np.stack([scores.argmax(1)] * 2)
    found = [searched(repeat, ranks=ranks, answers=answers, truth=truth, secrets=[1, 300]) for repeat in range(200)]
    p = np.array(found)
    assert np.array_equal(p[..., 0], p[..., 1]), "both models answer alike"
    assert ((p[:, :, 0] <= 0.05).mean(0) < 0.12).all()
    assert (p[:, :, 1] <= 0.05).all()


def test_a_search_knows_the_p_values_of_the_product() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 10, 200)
    scores = rng.normal(size=(200, 10))
    scores[np.arange(200), truth] += 1
    images = rng.integers(0, 200, (20, QUERIES))
    labels = (truth[images] + rng.integers(1, 10, images.shape)) % 10
    found = p_values(images, labels, ranks=rank_table(scores, truth), answers=scores.argmax(1), truth=truth)
    for key, (rows, own) in enumerate(zip(images, labels, strict=True)):
        for form, answers in enumerate((scores[rows].argmax(1), scores[rows])):
            p = weigh(answers, own, truth[rows], classes=10).p_value
            assert found[form, key] == pytest.approx(p, rel=1e-11)
