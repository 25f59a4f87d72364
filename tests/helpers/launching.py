"""A small sweep and the command line, for tests that start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

SWEEP: dict[str, Any] = {
    "name": "small",
    "victim": {
        "data": "digits",
        "split": {"validation": 40, "queries": 50},
        "model": {"kind": "cnn", "width": 4},
        "recipe": {"epochs": 2, "batch_size": 128, "lr": 0.05, "momentum": 0.9, "schedule": "cosine"},
        "scheme": {
            "grid": [
                {"kind": "none"},
                {"kind": "margin", "num_queries": 10, "step_size": 0.01, "steps": 2, "queries_per_step": 4},
            ]
        },
        "seed": 0,
    },
    "attacks": [{"kind": "extraction", "labels": {"grid": ["soft", "hard"]}}],
    "attack_unmarked": True,
}


def sweep(folder: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Write the small sweep, changed or not, and give its path."""
    tree = yaml.safe_load(yaml.safe_dump(SWEEP))
    if change is not None:
        change(tree)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def command(verb: str, *words: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "launch.py"), verb, *map(str, words)]


def environment() -> dict[str, str]:
    hidden = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")
    return {key: value for key, value in os.environ.items() if key not in hidden}


def launched(folder: Path, verb: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` as a user would."""
    return subprocess.run(
        command(verb, *words),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
