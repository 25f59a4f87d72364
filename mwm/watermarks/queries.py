"""The query set: the images and labels which are the watermark's key (Kim et al., 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as packed
from torch import Tensor

from mwm.config.randomness import keyed_permutation, keyed_randbelow
from mwm.data.datasets import array_digest
from mwm.data.images import crop_and_flip, to_float
from mwm.data.splits import LabeledImages

TENSORS = ("images", "labels", "truth")


@dataclass(frozen=True, eq=False, slots=True)
class QuerySet:
    """The watermark's key: images uint8 n c h w, the wrong labels assigned to them and their true labels, int64 n."""

    images: Tensor
    labels: Tensor
    truth: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def float_images(self) -> Tensor:
        """The images as a network sees them: float32 n c h w in [0, 1]."""
        return to_float(self.images)

    def digest(self) -> str:
        """Sixteen hex digits of images, labels and truth, the same on every device; too short to be a commitment."""
        return array_digest(*(getattr(self, name).cpu().numpy() for name in TENSORS))

    def to(self, device: torch.device | str) -> QuerySet:
        """The same query set on `device`."""
        return QuerySet(self.images.to(device), self.labels.to(device), self.truth.to(device))


def draw_queries(source: LabeledImages, *, num: int, classes: int, flip: bool, pad: int, secret: bytes) -> QuerySet:
    """Draw a key: `num` images of the source, augmented once as in training, each labelled with a random wrong class.

    By the rule of room `rule`: the images are the first `num` in the order for "choice"; number i gets `pad` black
    pixels on every side and is cropped at row "top" and column "left", both below 2 pad + 1, then mirrored if "flip",
    below 2, is 1. A smaller key is the beginning of a larger one of the same secret, and no key depends on the device.
    Raises ValueError if the source is too small.
    """
    count, device = len(source), source.labels.device
    if not 1 <= num <= count:
        raise ValueError(f"{num} queries cannot be drawn from a query source of {count} images; allowed: 1 to {count}")
    rows = keyed_permutation(secret, "choice", count)[:num]
    top, left = (_drawn(secret, use, num=num, bound=2 * pad + 1) for use in ("top", "left"))
    mirrored = _drawn(secret, "flip", num=num, bound=2).bool() if flip else None
    images = crop_and_flip(source.images.cpu()[rows], top=top, left=left, mirrored=mirrored, pad=pad)
    truth = source.labels.cpu()[rows]
    return QuerySet(images, draw_wrong_labels(secret, truth, classes), truth).to(device)


def draw_wrong_labels(secret: bytes, truth: Tensor, classes: int) -> Tensor:
    """The labels of queries, int64 n, uniform over the `classes` - 1 wrong ones (Kim et al., 2023).

    They follow from the secret, the positions and the true labels alone: truth_i + 1 + "label" modulo `classes`, where
    "label" is a number below `classes` - 1.
    """
    assert classes >= 2, f"{classes} classes leave no wrong label"
    return (truth + 1 + _drawn(secret, "label", num=len(truth), bound=classes - 1)) % classes


def _drawn(secret: bytes, use: str, *, num: int, bound: int) -> Tensor:
    return torch.tensor([keyed_randbelow(secret, use, index=index, bound=bound) for index in range(num)])


def pack(queries: QuerySet) -> bytes:
    """A query set as the content of a safetensors file, with its digest."""
    tensors = {name: getattr(queries, name).cpu().contiguous() for name in TENSORS}
    return packed(tensors, metadata={"digest": queries.digest()})


def load(path: Path | str) -> QuerySet:
    """Read a query set back; ValueError, in one line, for a file which is missing, damaged or no query set."""
    try:
        with safe_open(path, "pt") as file:
            digest = (file.metadata() or {}).get("digest")
            queries = QuerySet(*(file.get_tensor(name) for name in TENSORS))
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
    if (labels == truth).any():
        return f"label {int(labels[labels == truth][0])} is the true one; allowed: wrong labels only"
    return ""
