"""A small network, images and its own answers to them, for tests of every form in which a suspect may come."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mwm.data.images import to_float
from mwm.models.build import build_model
from mwm.models.networks import Cnn
from mwm.training.evaluation import predict_logits
from mwm.verification.suspects import SUFFIXES, Suspect, open_suspect
from mwm.verification.suspects.in_process import InProcessSuspect
from mwm.verification.suspects.isolated.child import OPENERS
from mwm.verification.suspects.presentation import UNIT_RANGE

SHAPE, CLASSES = (1, 6, 6), 4
IMAGES: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (23, *SHAPE), dtype=np.uint8)


def network(seed: int = 0) -> nn.Module:
    """A network whose statistics are no longer those of its beginning, and which names more than one class."""
    chance = torch.Generator().manual_seed(seed)
    made = build_model(Cnn(width=4, depth=2), shape=SHAPE, classes=CLASSES, mean=[0.4], std=[0.2], generator=chance)
    made(torch.rand(64, *SHAPE, generator=chance))
    with torch.no_grad():
        bias = list(made.parameters())[-1]
        bias.sub_(made.eval()(to_float(torch.from_numpy(IMAGES))).mean(0))
    return made


def scores(of: nn.Module) -> NDArray[np.float64]:
    """What a network says of IMAGES: logits n C, not all of one class."""
    said = predict_logits(of, torch.from_numpy(IMAGES)).double().numpy()
    assert len(set(said.argmax(1))) > 1, "a network that names one class tells nothing"
    return said


def opened(address: object, *, trust: bool = False, **options: Any) -> Suspect:
    """Open a suspect for images and classes like those of `network`."""
    return open_suspect(str(address), shape=SHAPE, classes=CLASSES, trust=trust, **options)


def opened_here(
    address: object, form: str = "", *, shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES
) -> InProcessSuspect:
    """Open a suspect in this process, as the process of its own does, which may take seconds to start."""
    form = form or SUFFIXES[Path(str(address)).suffix]
    return OPENERS[form](str(address), shape=shape, classes=classes, presentation=UNIT_RANGE)


def labels(suspect: Suspect) -> NDArray[np.int64]:
    """The classes that a suspect names for IMAGES."""
    said = suspect(IMAGES)
    assert said.dtype == (np.int64 if said.ndim == 1 else np.float64)
    named: NDArray[np.int64] = said if said.ndim == 1 else said.argmax(1)  # type: ignore[assignment]
    return named


class Bomb:
    """Something that leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self._mark,)


def pickled(content: object, path: Path) -> None:
    """Write a bare pickle."""
    path.write_bytes(pickle.dumps(content))
