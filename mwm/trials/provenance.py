"""Which code and which libraries made a result."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__version__ = "0.2.0"

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "ray", "mlflow", "optuna")


def provenance() -> dict[str, str]:
    """Tags of a run: git revision, whether the tree differs from it, versions; `unknown` outside a checkout.

    A library that is not installed (Ray, MLflow where one only trains) is `absent`.
    """
    revision, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    tags = {"git.revision": revision or "unknown", "git.dirty": "unknown" if changes is None else str(bool(changes))}
    tags |= {f"version.{name}": _version(name) for name in LIBRARIES}
    return {**tags, "version.mwm": __version__, "version.python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _git(*arguments: str) -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()
