"""The driver of a sweep without Ray: every trial is done the moment it is asked for, and all of it is recorded.

What the workers would have written is copied from one real victim and one real attack. Then the same sweep is gone
through again, as a resumed one is: everything is known to the store, and to MLflow.
"""

from __future__ import annotations

import cProfile
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mwm.plan import Plan
from mwm.spec import decode
from mwm.stage import run
from mwm.store import PERTURBED, QUERIES, WEIGHTS, Store
from mwm.sweep import corners, thefts
from mwm.trial import Outcome, Row, Sets, Trial, complete_attack, victim_digest
from tests.benchmarks.driving import Watched, npz, opened, sample, size, sweep_of

ATTACKS = 4
SETTINGS = 20
"""Victims differ in this many weights of the watermark, and in seeds."""


def tree(path: Path, victims: int) -> dict[str, Any]:
    """A sweep of trivial trials on the data set at `path`; `victims` is a multiple of SETTINGS, or smaller."""
    weights = [round(0.1 + number / 1000, 4) for number in range(min(SETTINGS, victims))]
    return {
        "name": "growth",
        "victim": {
            "data": {"kind": "npz", "path": str(path), "flip": False, "pad": 0},
            "split": {"validation": 12, "queries": 12},
            "model": {"kind": "cnn", "width": 1, "depth": 1},
            "recipe": {"epochs": 1, "batch_size": 16, "lr": 0.1},
            "scheme": {"kind": "base", "num_queries": 6, "weight": {"grid": weights}},
            "seed": {"grid": list(range(victims // len(weights)))},
        },
        "attacks": [{"kind": "extraction", "seed": {"grid": list(range(ATTACKS))}}],
    }
