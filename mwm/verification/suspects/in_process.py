"""A suspect that runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mwm.storage.redaction import describe_error
from mwm.verification.suspects.outputs import NoAnswerError, Outputs, parse_outputs
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]
"""Channels, height and width."""


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
            failed = f"{self.name}: failed on images of shape {self.presentation.present(full).shape}"
            raise NoAnswerError(f"{failed} ({describe_error(error)}){self._hint(full)}") from error
        return parse_outputs(came, count=size, classes=self.classes, who=self.name)[: len(images)]

    def _hint(self, images: NDArray[np.uint8]) -> str:
        """That it answers to images with their axes in the other order, if it does; after it has failed."""
        other = self.presentation.other_axes
        try:
            parse_outputs(self.ask(other.present(images)), count=len(images), classes=self.classes, who=self.name)
        except KeyboardInterrupt:
            raise
        except BaseException:
            return ""
        return f"; it answers with --layout {other.layout}"


def as_numpy_function(network: nn.Module) -> Callable[[NDArray[np.float32]], Any]:
    """A network as a function of NumPy arrays."""
    import torch

    def ask(pixels: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels))

    return ask


def only_batch(address: str, given: Sequence[Any], shape: Shape) -> int | None:
    """The one batch size that a network takes, if there is only one; ValueError if it takes other images."""
    sizes = [size if isinstance(size, int) and size >= 0 else None for size in given]
    if len(sizes) not in (0, 4) or any(size not in (None, side) for size, side in zip(sizes[1:], shape, strict=False)):
        shown = ", ".join("n" if size is None else str(size) for size in sizes)
        asked = ", ".join(map(str, shape))
        hint = (
            "; channels may be first or last: see --layout"
            if len(sizes) == 4 and {*map(str, sizes[1:])} == {*asked.split(", ")}
            else ""
        )
        raise ValueError(f"{address}: is a network for images ({shown}), the key has (n, {asked}){hint}")
    return sizes[0] if sizes else None


def probed(suspect: InProcessSuspect, shape: Shape, sizes: Sequence[int] = ()) -> InProcessSuspect:
    """A suspect that has answered to black images: what it cannot take shows before it is asked anything.

    One that takes not any number of images, and does not say which, may take one at a time, or as many as in `sizes`.
    """
    others = () if suspect.batch else (1, *sizes)
    faults: list[ValueError | NoAnswerError] = []
    for tried in (suspect, *(replace(suspect, batch=size) for size in others)):
        try:
            for count in (1, 2):
                tried(np.zeros((count, *shape), np.uint8))
        except (ValueError, NoAnswerError) as error:
            faults.append(error)
        else:
            return tried
    raise ValueError(str(faults[0])) from faults[0]
