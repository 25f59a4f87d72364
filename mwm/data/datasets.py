"""Data sets: what a user may name, and what one holds that was read and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from mwm.config.functions import FromFunction
from mwm.config.spec import (
    DISCRIMINATED,
    Count,
    Digest,
    NonEmptyStr,
    NonNegativeInt,
    StrictBool,
    decode,
    encode,
    spec,
)

PARTS = ("train", "test")
"""The parts that data sets come in."""


@spec
class Digits:
    """Handwritten digits, 8×8 grey, bundled with scikit-learn (Alpaydin and Kaynak, 1998): 1437 train, 360 test.

    They come undivided. PyTorch's generator deals them, once, into training and test images; roles and key are then
    drawn by the key derivation.
    """

    kind: Literal["digits"] = "digits"
    flip: StrictBool = False
    pad: NonNegativeInt = 1


@spec
class Cifar10:
    """CIFAR-10 (Krizhevsky, 2009): 32×32 colour photographs of ten things, downloaded into `root` on first use."""

    kind: Literal["cifar10"] = "cifar10"
    root: NonEmptyStr = "data"
    flip: StrictBool = True
    pad: NonNegativeInt = 4


@spec
class Cifar100:
    """CIFAR-100 (Krizhevsky, 2009): 32×32 colour photographs of a hundred things, downloaded on first use."""

    kind: Literal["cifar100"] = "cifar100"
    root: NonEmptyStr = "data"
    flip: StrictBool = True
    pad: NonNegativeInt = 4


@spec
class Svhn:
    """Street View House Numbers (Netzer et al., 2011): 32×32 colour digits, downloaded; no mirroring."""

    kind: Literal["svhn"] = "svhn"
    root: NonEmptyStr = "data"
    flip: StrictBool = False
    pad: NonNegativeInt = 4


@spec
class Npz:
    """Any images in a NumPy archive: x_train, x_test uint8 n h w c with 1 or 3 channels, y_train, y_test integers."""

    kind: Literal["npz"] = "npz"
    path: NonEmptyStr
    flip: StrictBool = True
    pad: NonNegativeInt = 4


@spec
class ImageFolder:
    """Any images as files `root/train/CLASS/*` and `root/test/CLASS/*`, resized to `size` × `size` pixels in colour.

    Transparent pictures are composed on `background`.
    """

    kind: Literal["imagefolder"] = "imagefolder"
    root: NonEmptyStr
    size: Count = 32
    background: Literal["white", "black"] = "white"
    flip: StrictBool = True
    pad: NonNegativeInt = 4


@spec
class PythonData(FromFunction):
    """Any images that a function of yours returns: a mapping of the arrays of an `npz`, by the same names.

    The function gets `arguments`.
    """

    kind: Literal["python"] = "python"
    flip: StrictBool = True
    pad: NonNegativeInt = 4


@spec
class ArrayData:
    """Arrays in memory, which Python alone can give (`mwm.Arrays`): their digest stands in their place."""

    kind: Literal["arrays"] = "arrays"
    digest: Digest
    flip: StrictBool = True
    pad: NonNegativeInt = 4

    def __post_init__(self) -> None:
        # Whoever has such a record has its data set, too: it is forgotten with the last one.
        object.__setattr__(self, "_dataset", _HELD.get(self.digest))

    @property
    def dataset(self) -> Dataset | None:
        """The data set, if this process has it."""
        held: Dataset | None = self._dataset  # type: ignore[attr-defined]
        return held

    def __getstate__(self) -> dict[str, Any]:
        return encode(self)  # another process is handed data sets beside records

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()


DatasetSpec = Annotated[Digits | Cifar10 | Cifar100 | Svhn | Npz | ImageFolder | PythonData | ArrayData, *DISCRIMINATED]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the files of a data set are, beside pictures as a network sees them.

    So many pictures of each mode (Pillow's word), `smallest` and `largest` by width and height. `whites` says which
    number was read as white, for modes of more than 8 bits. So many pictures were `turned` by their orientation,
    `composed` on a background, are the first of several `frames`, or lie `deeper` than in the folder of a class.
    Left out: so many `hidden` files and folders, files that are `no_pictures`, and what has no class (`unclassed`).
    """

    modes: Mapping[str, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    whites: Mapping[str, float]
    turned: int
    composed: int
    frames: int
    deeper: int
    hidden: int
    no_pictures: tuple[str, ...]
    unclassed: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Dataset:
    """A checked data set: images uint8 n c h w, labels int64 n below `classes`, and the digest of all of it.

    `class_names` holds a name for each class where the data have them, else nothing. No digest depends on names.
    `findings` tells of the files, where each is a picture.
    """

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: int
    digest: str
    class_names: tuple[str, ...] = ()
    findings: Findings | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.x_train.shape[1], self.x_train.shape[2], self.x_train.shape[3]


_HELD: WeakValueDictionary[str, Dataset] = WeakValueDictionary()
"""The data sets of arrays that records of this process name, by their digests."""


def hold(dataset: Dataset, name: str, *, flip: bool, pad: int) -> ArrayData:
    """The record of a data set in memory; ValueError, a line a fault after `name`, for another `flip` or `pad`."""
    held = _HELD.get(dataset.digest)
    if held is None or held.class_names != dataset.class_names:
        _HELD[dataset.digest] = dataset
    record: ArrayData = decode(ArrayData, {"digest": dataset.digest, "flip": flip, "pad": pad}, name)
    assert record.dataset is not None, "it was put there"
    return record


def names_fault(names: Sequence[str], classes: int) -> str:
    """What is wrong with the names of so many classes; nothing for no names at all."""
    if len(names) not in (0, classes):
        return f"{len(names)} names for {classes} classes"
    for name in names:
        if not name.isprintable() or not name.strip():
            return f"{name!r} is no printable name"
        if names.count(name) > 1:
            return f"{name!r} is the name of {names.count(name)} classes"
    return ""


def array_digest(*arrays: NDArray[Any]) -> str:
    """Sixteen hex digits of the SHA-256 over the shapes, types and bytes of arrays."""
    content = hashlib.sha256()
    for array in arrays:
        content.update(f"{array.dtype.str}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()[:16]


def require(holds: bool, fault: str) -> None:
    """Raise ValueError with what is at fault, unless all is well."""
    if not holds:
        raise ValueError(fault)
