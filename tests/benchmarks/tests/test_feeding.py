"""The benchmark of feeding: all ways train the same network, and what is too slow is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.feeding import ENOUGH, Ground, command_line, fed, noise, resident, too_slow


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    asked = command_line().parse_args(["--images", "70", "--side", "8", "--batch", "16"])
    return noise(str(tmp_path), asked)


def test_every_way_trains_the_same_network(ground: Ground) -> None:
    turns = [fed(ground, way) for way in ("device", "host", "mapped")]
    epochs = [[turn()["loss"] for turn in turns] for _ in range(2)]
    assert [len(set(losses)) for losses in epochs] == [1, 1], "a way shows other images"
    assert epochs[0][0] != epochs[1][0], "every epoch is the same"


def test_a_turn_tells_startup_and_memory(ground: Ground) -> None:
    told = fed(ground, "host")()
    assert min(told["startup"], told["shared"]) > 0
    before, held = resident()["own"], bytearray(b"1") * (200 * 2**20)
    grown, asked = resident()["own"] - before, len(held) / 2**20
    assert 0.5 * asked <= grown <= 1.5 * asked


@pytest.mark.parametrize(("ratio", "slow"), [(ENOUGH, False), (ENOUGH - 0.01, True), (1.2, False)])
def test_a_host_that_does_not_keep_up_is_told(ratio: float, slow: bool) -> None:
    found: dict[str, Any] = {"device": {"ratios": {"median": 1.0}}}
    assert not too_slow(found), "it was not measured"
    assert too_slow(found | {"host": {"ratios": {"median": ratio}}}) is slow
