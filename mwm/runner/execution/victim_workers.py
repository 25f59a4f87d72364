"""The other workers of a trial that several train: a process each, in the places that were taken for the trial."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
import torch
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mwm.config.spec import decode
from mwm.runner.execution.process import exit_with_parent, prepare_process
from mwm.runner.sweeps.sweep import Resources, TrialResources
from mwm.storage.store import Store
from mwm.training.parallel import WHOLE, BatchShare, find_meeting, joined, open_meeting
from mwm.trials.run import assist
from mwm.trials.trial import Trial, TrialInputs

LAST_WORDS_S = 5.0
"""How long a worker whose end may be the reason of an error is given to be known as dead."""

GRACE_S = 30.0
"""How long after the end of another worker a step may still wait for it: gloo notices at once, NCCL may not."""


class WorkerLostError(RuntimeError):
    """Another worker of the trial has died."""


class _Worker:
    """A process that learns its share of every batch of a trial."""

    def assist(
        self,
        config: dict[str, Any],
        sets: TrialInputs,
        *,
        store: str,
        resources: Resources,
        share: BatchShare,
        host: str,
        port: int,
    ) -> None:
        """Train along to the end."""
        exit_with_parent()
        device = prepare_process(resources.victim)
        sets = replace(sets, images_on=resources.images_on)
        with joined(find_meeting(host, port), share, device):
            assist(decode(Trial, config), sets, store=Store(store), device=device, share=share)


@contextmanager
def other_workers(
    config: dict[str, Any], held: Any, *, store: str, resources: Resources, device: torch.device
) -> Iterator[BatchShare]:
    """Start the other workers of the trial that is this process, if it has any; the share of this one, the first.

    They read what trials need where Ray's object store has it, at the reference `held`. They end with this process.
    Raises WorkerLostError in place of what a step says when one of them has died, and the error of that worker if it
    had one.
    """
    taken = resources.of_trial(config)
    if taken.workers == 1:
        yield WHOLE
        return
    host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    meeting, over = open_meeting(host), threading.Event()
    where: dict[str, Any] = {"host": host, "port": meeting.port, "store": store, "resources": resources}
    others = [_start(rank, taken) for rank in range(1, taken.workers)]
    ends = [
        one.assist.remote(config, held, **where, share=BatchShare(rank, taken.workers))
        for rank, one in enumerate(others, 1)
    ]
    threading.Thread(target=_watch, args=(ends, over), name="workers", daemon=True).start()
    try:
        with joined(meeting, BatchShare(0, taken.workers), device):
            yield BatchShare(0, taken.workers)
    except RuntimeError as error:
        if (reason := _reason(ends)) is not None:
            raise reason from error
        raise
    finally:
        over.set()
        for one in others:
            ray.kill(one)


def _start(rank: int, taken: TrialResources) -> Any:
    """The process of a rank, in its place."""
    taken_together = get_current_placement_group()
    assert taken_together is not None, "Tune runs each trial in the places that were taken for it"
    place = PlacementGroupSchedulingStrategy(taken_together, placement_group_bundle_index=rank)
    worker: Any = ray.remote(_Worker)
    return worker.options(num_cpus=taken.cpus, num_gpus=taken.gpus, scheduling_strategy=place).remote()


def _watch(ends: Sequence[Any], over: threading.Event) -> None:
    """End this process if a worker has died and the training still waits for it: then the trial is retried."""
    left = list(ends)
    while left and not over.is_set():
        done, left = ray.wait(left, timeout=1.0)
        if any(_error(end) for end in done) and not over.wait(GRACE_S):
            os._exit(1)


def _reason(ends: Sequence[Any]) -> Exception | None:
    """What ended another worker, if one is dead."""
    done, _ = ray.wait(list(ends), timeout=LAST_WORDS_S)
    for rank, end in enumerate(ends, 1):
        if end in done and (error := _error(end)) is not None:
            lost = WorkerLostError(f"worker {rank + 1} of {len(ends) + 1} died")
            return lost if isinstance(error, WorkerLostError) else error
    return None


def _error(end: Any) -> Exception | None:
    """How a worker ended: None if as it should, WorkerLostError if its process died, else what it raised."""
    try:
        ray.get(end)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else WorkerLostError()
    except ray.exceptions.RayError:
        return WorkerLostError()
    return None
