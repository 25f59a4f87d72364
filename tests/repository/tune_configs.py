"""Check every shipped sweep as a user would: `python -m tests.repository.tune_configs`.

Exits non-zero when one is refused."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from mwm.models.build import build_model
from mwm.models.networks import Cnn

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "tune_configs").rglob("*.yaml"))


def small_archive(path: Path) -> Path:
    """Write noise as an npz data set (3 x 32 x 32, ten classes), of the size that the largest sweep asks for."""
    chance = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 10_000), ("test", 100)):
        arrays[f"x_{part}"] = chance.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(path, **arrays)
    return path


def fresh_network(path: Path) -> Path:
    """Write the weights of a network for digits, as a sweep asks for it that starts from one."""
    drawn = torch.Generator().manual_seed(0)
    network = build_model(Cnn(width=32), shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.4], generator=drawn)
    save_file(network.state_dict(), path)
    return path


def main() -> int:
    """Run `launch.py check` on each sweep: on noise where one asks for an archive, with a network where for a start."""
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        archive = small_archive(Path(folder) / "noise.npz")
        network = fresh_network(Path(folder) / "network.safetensors")
        for path in SHIPPED:
            own = ["--set", f"victim.data.path={archive}"] if "kind: npz" in path.read_text() else []
            if "start: network.safetensors" in path.read_text():
                own += [word for place in ("victim", "attacks.1") for word in ("--set", f"{place}.start={network}")]
            command = [sys.executable, "launch.py", "check", str(path.relative_to(ROOT)), *own]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            print(f"{path.name}: {'sound' if done.returncode == 0 else done.stderr.strip()}")
            refused += done.returncode != 0
    return int(refused > 0 or not SHIPPED)


if __name__ == "__main__":
    sys.exit(main())
