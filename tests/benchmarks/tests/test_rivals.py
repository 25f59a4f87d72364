"""Rivals of a benchmark: each in a process of its own, in turns, and what is said of their times."""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.benchmarks.rivals import Rival, Turn, compared, race, seated


def test_ratios_are_of_medians_and_of_pairs() -> None:
    turns = {"slow": [4.0, 6.0, 8.0], "fast": [2.0, 1.0, 2.0]}
    samples = {name: [{"seconds": one} for one in seconds] for name, seconds in turns.items()}
    fast = compared(samples, "slow")["fast"]
    assert fast["seconds"] == {"median": 2.0, "low": 1.5, "high": 2.0}
    assert fast["ratio"] == 3.0
    assert fast["ratios"] == {"median": 4.0, "low": 3.0, "high": 5.0}


def noting(name: str, diary: Path) -> Turn:
    """A rival that writes down its turns."""

    def turn() -> dict[str, float]:
        with diary.open("a") as file:
            file.write(f"{name} {os.getpid()} {torch.get_num_threads()} {multiprocessing.get_start_method()}\n")
        time.sleep(0.02)
        return {"own": 5.0}

    return turn


def broken() -> Turn:
    def turn() -> dict[str, float]:
        raise ZeroDivisionError("on purpose")

    return turn


@pytest.mark.slow
@pytest.mark.long
def test_rivals_take_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    rivals = [Rival(name, partial(noting, name, diary), "cpu", threads=2, units=4) for name in "ab"]
    samples = race(rivals, rounds=3, warm=1, pause=0)
    lines = [line.split() for line in diary.read_text().splitlines()]
    assert [line[0] for line in lines] == ["a", "b", "a", "b", "b", "a", "a", "b"], "two to warm up, then three rounds"
    assert len({line[1] for line in lines} | {str(os.getpid())}) == 3
    assert {tuple(line[2:]) for line in lines} == {("2", "fork")}, "workers of a rival are to be forked"
    for turns in samples.values():
        assert [turn["own"] for turn in turns] == [5.0] * 3
        assert all(0.005 <= turn["seconds"] < 0.02 for turn in turns), "seconds of one of four units"


@pytest.mark.slow
@pytest.mark.long
def test_no_round_is_begun_that_would_end_too_late_and_a_broken_rival_is_named(tmp_path: Path) -> None:
    slow = Rival("slow", partial(noting, "slow", tmp_path / "diary"), "cpu", threads=1)
    assert len(race([slow], rounds=50, warm=0, pause=0, limit=0)["slow"]) == 1
    with seated([Rival("broken", broken, "cpu", threads=1)], warm=0) as (seat,):
        seat.ask()
        with pytest.raises(RuntimeError, match="broken: its process has ended"):
            seat.hear()
