"""Cores that this process may use, which are often fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def usable_cores(root: Path = Path("/")) -> int:
    """Whole cores, at least 1: what affinity, the quotas of cgroups and Slurm leave.

    `root` is where `proc` and `sys` lie.
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = [int(text) for name in SLURM if (text := os.environ.get(name, "")).isdecimal()]
    return max(1, int(min([pinned, *granted, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Cores by the quotas of this process's cgroup, of version 2 or 1, and of those above it.

    In a container the path of the group may be the host's, of which only the root is there.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = mounted / path.lstrip("/")
        for folder in (one for one in (group, *group.parents) if one.is_relative_to(mounted)):
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            quota, period = (*" ".join(_read(folder / name) for name in files).split(), "", "")[:2]
            if quota.isdecimal() and period.isdecimal():  # "max" or -1 is no quota
                yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
