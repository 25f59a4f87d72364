"""What every benchmark has: a command line, the machine it ran on, a printed table and a file of figures.

Nothing here needs more than PyTorch and the product's plain rooms: a rented GPU machine has little else installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mwm.trials.provenance import provenance

ROOT = Path(__file__).parent.parent.parent


def parser(about: str | None) -> argparse.ArgumentParser:
    """A command line with `--output`."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures there")
    return made


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where and with what a benchmark was run; with the GPU and its driver if `device` is one."""
    return {
        "command": shlex.join(["python", "-m", f"tests.benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_before": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        **(_gpu() if device.startswith("cuda") else {}),
        "versions": provenance(),
    }


def _gpu() -> dict[str, Any]:
    held = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = "unknown"
    cuda, cudnn = torch.version.cuda, torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    memory = round(held.total_memory / 2**30, 1)
    return {"gpu": held.name, "gpu_memory_gib": memory, "driver": driver, "cuda": cuda, "cudnn": cudnn}


def publish(output: Path | None, machine: dict[str, Any], figures: dict[str, Any]) -> None:
    """Say what was measured where, and write machine and figures as JSON."""
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    print(f"{machine['cores']} cores{gpu}, load before {machine['load_before']:.1f}, {machine['date']}", flush=True)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")


def show(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table of text, figures to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    print(f"\n{title}")
    for line in (headings, ["-" * width for width in widths], *lines):
        first, *figures = [
            f"{text:{'>' if n else '<'}{width}}" for n, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join([f" {first}", *figures]).rstrip())
    print(flush=True)
