"""Cores: what affinity, cgroups and Slurm leave, and never less than one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mwm.runner.execution.cores import SLURM, usable_cores

PINNED = len(os.sched_getaffinity(0))
GROUPS = {
    "half a core": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    "one core and a half": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),
    "no quota": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, PINNED),
    "a group above": (
        {
            "proc/self/cgroup": "0::/slurm/job_1/step_0\n",
            "sys/fs/cgroup/slurm/job_1/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/slurm/job_1/step_0/cpu.max": "max 100000\n",
        },
        1,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/docker/abc\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        1,
    ),
    "version 1 without quota": (
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        PINNED,
    ),
    "more than there are": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9000000 1000\n"}, PINNED),
    "no cgroups": ({}, PINNED),
    "what nobody understands": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "\n"}, PINNED),
}


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("group", GROUPS)
def test_a_quota_is_kept(group: str, tmp_path: Path) -> None:
    files, cores = GROUPS[group]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("name", "text", "cores"), [(name, "1", 1) for name in SLURM] + [(SLURM[0], "", PINNED)])
def test_slurm_may_grant_less(
    name: str, text: str, cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, text)
    assert usable_cores(tmp_path) == cores


def test_affinity_is_kept(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
