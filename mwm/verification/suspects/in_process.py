"""A suspect that runs in this process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mwm.verification.suspects.outputs import NoAnswerError, Outputs, describe_error, parse_outputs
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat


@dataclass(frozen=True, eq=False, slots=True)
class InProcessSuspect:
    """A suspect that is a function here: `ask` gets images as `presentation` shows them, and returns labels or scores.

    `batch` is the one number of images that it takes at a time, if there is only one. Whatever `ask` raises, or returns
    that is no answer, becomes a NoAnswerError, the wish to exit, too: an exit status is a verdict.
    """

    name: str
    access: str
    identity: str
    classes: int
    ask: Callable[[NDArray[np.float32]], Any]
    batch: int | None = None
    presentation: InputFormat = UNIT_RANGE

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Labels (int64, n) or scores (float64, n C) of images (uint8, n c h w)."""
        size = self.batch or len(images)
        parts = [self._answers(images[start : start + size], size) for start in range(0, len(images), size)]
        if len({part.ndim for part in parts}) > 1:
            raise NoAnswerError(f"{self.name}: answered with labels to some images and with scores to others")
        return np.concatenate(parts)

    def shown(self, presentation: InputFormat) -> InProcessSuspect:
        """The same suspect, asked in another way."""
        return replace(self, presentation=presentation)

    def _answers(self, images: NDArray[np.uint8], size: int) -> Outputs:
        full = np.resize(images, (size, *images.shape[1:]))  # begins again where there are too few
        try:
            came = self.ask(self.presentation.present(full))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise NoAnswerError(
                f"{self.name}: failed on images of shape {full.shape} ({describe_error(error)})"
            ) from error
        return parse_outputs(came, count=size, classes=self.classes, who=self.name)[: len(images)]


@contextmanager
def as_open_error(otherwise: str) -> Iterator[None]:
    """What fails is a ValueError that says `otherwise`, and why, in one line; libraries say nothing themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{otherwise} ({describe_error(error)})") from error
    finally:
        logging.disable(before)


def as_numpy_function(network: nn.Module) -> Callable[[NDArray[np.float32]], Any]:
    """A network as a function of NumPy arrays."""

    def ask(pixels: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels))

    return ask
