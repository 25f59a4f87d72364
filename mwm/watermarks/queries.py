"""The query set: the images and labels which are the watermark's key (Kim et al., 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed
from torch import Tensor

from mwm.config.randomness import keyed_permutation, keyed_randbelow
from mwm.data.datasets import array_digest
from mwm.data.images import Augmentation, crop_and_flip, to_float
from mwm.data.splits import LabeledImages

Null = Literal["uniform_wrong_labels", "exchangeable", "null_models"]
"""How the secret labels of a key relate to a network that never saw it, and so which test of its answers is valid.

null                  the labels                                             the test
uniform_wrong_labels  drawn uniformly from the wrong classes, cell by cell   exact: ranks given the answers
exchangeable          such that any permutation was as likely                permutation of the labels
null_models           of any other kind                                      none but comparison with null models
"""

TENSORS = ("images", "labels", "truth")
CELLS = "cells"


@dataclass(frozen=True, eq=False, slots=True)
class QuerySet:
    """The watermark's key: images uint8 n c h w, the labels assigned to them and their true labels, int64 n.

    A key is a list of cells: images of one true class that share one secret label, drawn for the whole cell. `cells`
    (int64 n) says which cell each image belongs to, counted from 0 without a gap; None where every image is one.
    `second` is another key that the same network is taught beside this one, with images and labels of its own.
    """

    images: Tensor
    labels: Tensor
    truth: Tensor
    cells: Tensor | None = None
    second: QuerySet | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def keys(self) -> tuple[QuerySet, ...]:
        """It, and the second key where there is one."""
        return (self,) if self.second is None else (self, self.second)

    @property
    def float_images(self) -> Tensor:
        """The images as a network sees them: float32 n c h w in [0, 1]."""
        return to_float(self.images)

    @property
    def num_cells(self) -> int:
        """How many labels were drawn, each on its own."""
        return len(self) if self.cells is None else int(self.cells.max()) + 1

    @property
    def cell_labels(self) -> Tensor:
        """The secret label of each cell (int64, k)."""
        return self._of_cells(self.labels)

    @property
    def cell_truth(self) -> Tensor:
        """The true class of each cell (int64, k)."""
        return self._of_cells(self.truth)

    def _of_cells(self, values: Tensor) -> Tensor:
        if self.cells is None:
            return values
        return values.new_zeros(self.num_cells).scatter(0, self.cells, values)

    def by_cell(self, logits: Tensor) -> Tensor:
        """Answers to cells (k C) from answers to images (logits n C): the mean of their log-probabilities.

        The rule never looks at the secret labels. An image that is a cell of its own keeps its logits.
        """
        if self.cells is None:
            return logits
        sums = logits.new_zeros(self.num_cells, logits.shape[1]).index_add(0, self.cells, logits.log_softmax(1))
        return sums / torch.bincount(self.cells, minlength=self.num_cells)[:, None]

    def tensors(self) -> dict[str, Tensor]:
        """What is kept of it, by name; a second key is kept on its own."""
        held = {name: getattr(self, name) for name in TENSORS}
        return held if self.cells is None else held | {CELLS: self.cells}

    def digest(self) -> str:
        """Sixteen hex digits of the content, the same on every device; too short to be a commitment."""
        return array_digest(*(tensor.cpu().numpy() for tensor in self.tensors().values()))

    def to(self, device: torch.device | str) -> QuerySet:
        """The same query set on `device`."""
        second = None if self.second is None else self.second.to(device)
        return QuerySet(**{name: tensor.to(device) for name, tensor in self.tensors().items()}, second=second)


def draw_queries(
    source: LabeledImages, *, num: int, classes: int, augmentation: Augmentation, secret: bytes
) -> QuerySet:
    """Draw a key: `num` images of the source, augmented once as in training, each labelled with a random wrong class.

    By the derivation of `config.randomness`: the images are the first `num` in the order for "choice"; number i gets
    `pad` black pixels on every side and is cropped at row "top" and column "left", both below 2 pad + 1, then mirrored
    if "flip", below 2, is 1. A smaller key is the beginning of a larger one of the same secret, and no key depends on
    the device. Raises ValueError if the source is too small.
    """
    count, device = len(source), source.labels.device
    if not 1 <= num <= count:
        raise ValueError(f"{num} queries cannot be drawn from a query source of {count} images; allowed: 1 to {count}")
    pad = augmentation.pad
    rows = chosen_rows(secret, count, num)
    top, left = (_drawn(secret, use, num=num, bound=2 * pad + 1) for use in ("top", "left"))
    mirrored = _drawn(secret, "flip", num=num, bound=2).bool() if augmentation.flip else None
    images = crop_and_flip(source.images.cpu()[rows], top=top, left=left, mirrored=mirrored, pad=pad)
    truth = source.labels.cpu()[rows]
    return QuerySet(images, draw_wrong_labels(secret, truth, classes), truth).to(device)


def chosen_rows(secret: bytes, count: int, num: int) -> list[int]:
    """Which of `count` images a key of `num` takes, in its order."""
    return keyed_permutation(secret, "choice", count)[:num]


def draw_wrong_labels(secret: bytes, truth: Tensor, classes: int) -> Tensor:
    """The labels of queries, int64 n, uniform over the `classes` - 1 wrong ones (Kim et al., 2023).

    They follow from the secret, the positions and the true labels alone: truth_i + 1 + "label" modulo `classes`, where
    "label" is a number below `classes` - 1.
    """
    assert classes >= 2, f"{classes} classes leave no wrong label"
    return (truth + 1 + _drawn(secret, "label", num=len(truth), bound=classes - 1)) % classes


def draw_cell_labels(secret: bytes, queries: QuerySet, classes: int) -> Tensor:
    """The wrong labels of all images (int64 n), drawn once for each cell."""
    if queries.cells is None:
        return draw_wrong_labels(secret, queries.truth, classes)
    return draw_wrong_labels(secret, queries.cell_truth, classes)[queries.cells]


def _drawn(secret: bytes, use: str, *, num: int, bound: int) -> Tensor:
    return torch.tensor([keyed_randbelow(secret, use, index=index, bound=bound) for index in range(num)])


def pack(queries: QuerySet) -> bytes:
    """A query set as the content of a safetensors file, with its digest."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in queries.tensors().items()}
    return packed(tensors, metadata={"digest": queries.digest()})


def unpack(data: bytes) -> QuerySet:
    """The query set in the content of a file that `pack` made, and whose hash was checked."""
    return QuerySet(**unpacked(data), second=None)


def load(path: Path | str) -> QuerySet:
    """Read a query set back; ValueError, in one line, for a file which is missing, damaged or no query set."""
    try:
        with safe_open(path, "pt") as file:
            digest = (file.metadata() or {}).get("digest")
            names = (*TENSORS, *({CELLS} & {*file.keys()}))
            queries = QuerySet(**{name: file.get_tensor(name) for name in names})
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: cannot be read as a query set ({reason}); allowed: a file that mwm has written"
        ) from None
    if fault := _defect(queries) or (digest != queries.digest() and "the content does not match its digest"):
        raise ValueError(f"{path}: no sound query set: {fault}")
    return queries


def _defect(queries: QuerySet) -> str:
    """What is wrong with the content of a query set, in one line; empty if nothing is."""
    images, labels, truth = queries.images, queries.labels, queries.truth
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        return f"images are {images.dtype} {tuple(images.shape)}; allowed: uint8 (n, channels, height, width)"
    for name, values in (("labels", labels), ("truth", truth)):
        if values.dtype != torch.int64 or values.shape != images.shape[:1]:
            return f"{name} are {values.dtype} {tuple(values.shape)}; allowed: int64 ({len(images)},)"
        if values.min() < 0:
            return f"{name} hold {int(values.min())}; allowed: 0 and above"
    return _cell_defect(queries)


def _cell_defect(queries: QuerySet) -> str:
    cells = queries.cells
    if cells is None:
        return ""
    if cells.dtype != torch.int64 or cells.shape != queries.labels.shape:
        return f"cells are {cells.dtype} {tuple(cells.shape)}; allowed: int64 ({len(queries)},)"
    if cells.min() < 0 or not torch.bincount(cells).all():
        return "cells are not counted from 0 without a gap"
    for name in ("labels", "truth"):
        values = getattr(queries, name)
        if not torch.equal(values, values.new_zeros(queries.num_cells).scatter(0, cells, values)[cells]):
            return f"the {name} of a cell differ; allowed: one for all its images"
    return ""
