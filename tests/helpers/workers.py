"""Trainings on several workers: processes of this machine that talk by gloo."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mwm.training.parallel import BatchShare, find_meeting, joined, open_meeting

HOST = "127.0.0.1"


def spread(work: Callable[..., Any], folder: Path, *args: Any, workers: int = 2) -> list[Any]:
    """What `work(share, *args)`, a function of a module, gives in each of some processes, by their ranks."""
    meeting = open_meeting(HOST)
    every = multiprocessing.get_context("spawn")
    started = [
        every.Process(
            target=_one,
            args=(work, BatchShare(rank, workers), meeting.port, folder / f"{rank}.pt", args),
            daemon=True,
        )
        for rank in range(workers)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(300)
    assert [one.exitcode for one in started] == [0] * workers, "a process has not come to its end"
    found = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(workers)]
    for one in found:
        assert "error" not in one, one["error"]
    return [one["result"] for one in found]


def _one(work: Callable[..., Any], share: BatchShare, port: int, path: Path, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    told: dict[str, Any] = {}
    try:
        with joined(find_meeting(HOST, port), share, torch.device("cpu")):
            told["result"] = work(share, *args)
    except BaseException:
        told["error"] = traceback.format_exc()
    torch.save(told, path)
