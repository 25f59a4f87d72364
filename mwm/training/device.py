"""What a trial does to its process and its device: the same bits each time, memory kept, given back and measured."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

MIB = 2**20

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Names of what glibc's mallopt sets (malloc.h)."""

LARGEST_MAPPED = (2**31 - 1, 2**25)
"""Bytes of the largest allocation that is to come from the heap: all there are, or what an older glibc allows."""

IMAGES_SHARE = 0.25
"""Of the free memory of a GPU, what images may take: weights, activations and libraries need the rest."""

SPARE_HEAP = 2**26
"""Bytes of a heap of a thread other than the first: one that is empty is given up unless so much is to be spare."""

OWN = Path("/proc/self")

RESET_PEAK = "5"
"""What Linux's /proc/self/clear_refs takes for "the peak is what is resident now" (proc(5), since 4.0)."""


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Have a GPU compute the same bits each time, if `wanted`; a CPU does so with the same number of threads.

    PyTorch warns of an operation that it cannot compute so.
    """
    if not wanted:
        yield
        return
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # nothing here reads what it has not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


@contextmanager
def global_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Have what draws from PyTorch's global generators, as dropout does, draw by a seed, and then be as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


def retain_freed_memory() -> bool:
    """Have this process keep the memory that it frees for its next allocations; whether the C library can.

    glibc maps each large tensor anew and gives it back at once, so that every step of a training pays a page fault for
    every 4 KiB of its activations: a tenth of a step of a ResNet-18. What is kept, `release` gives back.
    """
    libc = _glibc()
    if libc is None:
        return False
    larger = any(libc.mallopt(MMAP_THRESHOLD, size) for size in LARGEST_MAPPED)
    return bool(libc.mallopt(TRIM_THRESHOLD, -1)) and bool(libc.mallopt(TOP_PAD, SPARE_HEAP)) and larger


def release(device: torch.device) -> None:
    """Give what is free, here and on the device, back to the system: others may need it."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def images_fit(size: int, device: torch.device) -> bool:
    """Whether images of so many bytes leave a GPU enough for a training: they take a quarter of what is free, at most.

    What is free is so for this process: a trial on a share of a GPU has that share. On a CPU images that are read where
    they are take no longer than a copy of them, and so none is made.
    """
    if device.type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.get_per_process_memory_fraction(device) * total - torch.cuda.memory_reserved(device)
    return size <= IMAGES_SHARE * min(free, own)


def _glibc() -> Any:
    """The C library if it is glibc; others have no such knobs."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


class PeakMemory:
    """The most memory that is taken from the making of this object on; the one made last in a process counts.

    On a GPU that is what PyTorch has reserved there, for this process alone. Else it is what is resident of the
    process, libraries and data sets included. Where Linux cannot forget an older peak, as on other systems, the peak
    of the whole life of the process stands for it: an upper bound. `earlier` is the peak (MiB) of attempts before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.earlier = device, 0.0
        self._forgot = False
        release(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        with suppress(OSError):
            (OWN / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
            self._forgot = True

    def mib(self) -> float:
        """MiB at most, so far."""
        if self.device.type == "cuda":
            return max(self.earlier, torch.cuda.max_memory_reserved(self.device) / MIB)
        return max(self.earlier, (_resident() if self._forgot else None) or _lifetime_peak())


def _resident() -> float | None:
    """MiB resident at most since the peak was forgotten; None where Linux does not tell."""
    with suppress(OSError):
        found = re.search(
            r"^VmHWM:\s*(\d+) kB$", (OWN / "status").read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        return int(found[1]) / 1024 if found else None
    return None


def _lifetime_peak() -> float:
    """MiB resident at most since the process began."""
    import resource  # Windows has none

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MIB if sys.platform == "darwin" else most / 1024  # bytes there, kB elsewhere (getrusage(2))
