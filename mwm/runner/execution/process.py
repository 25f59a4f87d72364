"""A process of the cluster in which a trial runs, or a part of one: as if nothing had run in it before."""

from __future__ import annotations

import os
import threading
import time
from functools import cache

import ray
import torch

from mwm.runner.sweeps.sweep import TrialResources
from mwm.training.device import retain_freed_memory


@cache
def exit_with_parent() -> None:
    """End this process soon after the one that started it: Ray leaves a trial, and its memory, for a minute more."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), name="parent", daemon=True).start()


def prepare_process(taken: TrialResources) -> torch.device:
    """Leave nothing of the trial that ran in this process before, and choose the device Ray has given."""
    # As many as its cores: one pool of all cores in every process would have them push each other aside.
    torch.set_num_threads(max(1, int(taken.cpus)))
    retain_freed_memory()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = False
    if not ray.get_gpu_ids() or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_per_process_memory_fraction(min(taken.gpus, 1.0))
    return torch.device("cuda", 0)
