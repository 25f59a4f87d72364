"""The benchmark of workers: both sides do the same steps."""

from __future__ import annotations

import pytest

from tests.benchmarks.ground import Ground
from tests.benchmarks.workers import measured


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2])
def test_both_sides_train_the_same_network(groups: int) -> None:
    ground = Ground(data="digits", model="cnn", width=4, batch=16, threads=2)
    found = measured(ground, 2, block=2, rounds=1, groups=groups)
    one, several = ([turn["loss"] for turn in found["turns"][side]] for side in ("one", "several"))
    assert len(one) == 2, "a turn to warm up, and one that counts"
    assert several == pytest.approx(one, abs=1e-4)
    assert found["throughput"] > 0
