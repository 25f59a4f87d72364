"""Sweeps to be checked, and the one line by which one is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.config.spec import decode
from mwm.runner.sweeps.sweep import Resources, Sweep, TrialResources
from mwm.runner.sweeps.validation import validate

VICTIM = {
    "data": "digits",
    "split": {"validation": 100, "queries": 100},
    "model": "cnn",
    "scheme": {"kind": "margin", "num_queries": 20},
    "recipe": {"batch_size": 64},
}


def swept(attacks: Any = (), **victim: Any) -> Sweep:
    """A sweep of changes of a sound victim."""
    tree = {"name": "s", "victim": VICTIM | victim, "attacks": list(attacks)}
    sweep: Sweep = decode(Sweep, tree)
    return sweep


def leased(victims: float, thieves: float, sweep: Sweep) -> Sweep:
    """A sweep with so many GPUs for each trial of a stage."""
    return replace(sweep, resources=Resources(victim=TrialResources(gpus=victims), attack=TrialResources(gpus=thieves)))


def spread(workers: int, sweep: Sweep, gpus: float = 0.0) -> Sweep:
    """A sweep whose victims are trained by so many workers each."""
    return replace(sweep, resources=Resources(victim=TrialResources(gpus=gpus, workers=workers)))


def refusal(sweep: Sweep) -> str:
    """The one line by which a sweep is refused."""
    with pytest.raises(ValueError, match=r".") as caught:
        validate(sweep)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def archive(path: Path, **changes: NDArray[Any]) -> Path:
    """A data set of 60 + 20 images, 16×16 in colour, four classes; or what `changes` make of it."""
    sound: dict[str, Any] = {"y_train": np.arange(60) % 4, "y_test": np.arange(20) % 4}
    noise = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), np.uint8)
    sound |= {"x_train": noise[:60], "x_test": noise[60:]}
    np.savez(path, **(sound | changes))
    return path
