"""Data sets as tensors, split by role: what the owner trains on, where queries come from, what the attacker holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, Strict
from torch import Tensor
from torch.nn import functional as F

from mwm import rule
from mwm.seeds import generator
from mwm.spec import OF_A_KIND, Count, Flag, Seed, Size, Text, spec


@spec
class Digits:
    """Handwritten digits, 8×8 grey, bundled with scikit-learn (Alpaydin and Kaynak, 1998): 1437 train, 360 test.

    They come undivided. PyTorch's generator deals them, once, into training and test images; roles and key are then
    drawn by the rule.
    """

    kind: Literal["digits"] = "digits"
    flip: Flag = False
    pad: Size = 1


@spec
class Cifar10:
    """CIFAR-10 (Krizhevsky, 2009): 32×32 colour photographs of ten things, downloaded into `root` on first use."""

    kind: Literal["cifar10"] = "cifar10"
    root: Text = "data"
    flip: Flag = True
    pad: Size = 4


@spec
class Cifar100:
    """CIFAR-100 (Krizhevsky, 2009): 32×32 colour photographs of a hundred things, downloaded on first use."""

    kind: Literal["cifar100"] = "cifar100"
    root: Text = "data"
    flip: Flag = True
    pad: Size = 4


@spec
class Svhn:
    """Street View House Numbers (Netzer et al., 2011): 32×32 colour digits, downloaded; no mirroring."""

    kind: Literal["svhn"] = "svhn"
    root: Text = "data"
    flip: Flag = False
    pad: Size = 4


@spec
class Npz:
    """Any images in a NumPy archive: x_train, x_test uint8 n h w c with 1 or 3 channels, y_train, y_test integers."""

    kind: Literal["npz"] = "npz"
    path: Text
    flip: Flag = True
    pad: Size = 4


@spec
class ImageFolder:
    """Any images as files `root/train/CLASS/*` and `root/test/CLASS/*`, resized to `size` × `size` pixels in colour."""

    kind: Literal["imagefolder"] = "imagefolder"
    root: Text
    size: Count = 32
    flip: Flag = True
    pad: Size = 4


Pair = tuple[NDArray[Any], NDArray[Any]]
Public = Cifar10 | Cifar100 | Svhn
Data = Annotated[Digits | Cifar10 | Cifar100 | Svhn | Npz | ImageFolder, *OF_A_KIND]


@spec
class Split:
    """Who gets the training images: `validation` and `queries` are set aside, a share of the rest is the attacker's."""

    validation: Count = 500
    queries: Count = 500
    disjoint: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.0
    seed: Seed = 0


@dataclass(frozen=True, eq=False, slots=True)
class DataSet:
    """A checked data set: images uint8 n c h w, labels int64 n below `classes`, and the digest of all of it."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: int
    digest: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.x_train.shape[1], self.x_train.shape[2], self.x_train.shape[3]


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """The images of one role on a device: images uint8 n c h w, labels int64 n."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class Views:
    """A data set by role; no training image has two roles, and `disjoint`, the attacker's own, may be empty."""

    owner: Part
    validation: Part
    queries: Part
    disjoint: Part
    test: Part


def fingerprint(*arrays: NDArray[Any]) -> str:
    """Sixteen hex digits of the SHA-256 over the shapes, types and bytes of arrays."""
    content = hashlib.sha256()
    for array in arrays:
        content.update(f"{array.dtype.str}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()[:16]


def load(data: Data) -> DataSet:
    """Read and check a data set; ValueError, in one line: the file or array at fault, what it is, what is allowed."""
    name = getattr(data, "path", getattr(data, "root", data.kind))
    (x_train, y_train), (x_test, y_test) = (_checked(name, part, _read(data, part)) for part in ("train", "test"))
    size, other, classes, largest = x_train.shape[1:], x_test.shape[1:], int(y_train.max()) + 1, int(y_test.max())
    _demand(size == other, f"{name}: x_test has images of (c, h, w) {other}; allowed: {size} as in x_train")
    held = len(np.unique(y_train))
    _demand(1 < held == classes, f"{name}: y_train has {held} of classes 0 to {classes - 1}; allowed: all, 2 or more")
    _demand(largest < classes, f"{name}: y_test holds the label {largest}; allowed: 0 to {classes - 1} as in y_train")
    return DataSet(x_train, y_train, x_test, y_test, classes, fingerprint(x_train, y_train, x_test, y_test))


def location(data: Data) -> str | None:
    """What loading will download, as a sentence for the user; None if everything needed is on this machine."""
    if isinstance(data, Digits | Npz | ImageFolder):
        return None
    from torchvision import datasets

    source, root = getattr(datasets, data.kind.upper()), Path(data.root).expanduser()
    if isinstance(data, Svhn):
        ways = [[source.split_list[part][1:] for part in ("train", "test")]]
    else:
        unpacked = [(f"{source.base_folder}/{name}", md5) for name, md5 in source.train_list + source.test_list]
        ways = [unpacked, [(source.filename, source.tgz_md5)]]
    here = any(all(datasets.utils.check_integrity(root / name, md5) for name, md5 in files) for files in ways)
    return None if here else f"{data.kind} will be downloaded into {data.root} on first use"


def _read(data: Data, part: str) -> Pair:
    """Images n h w c and labels n of the part `train` or `test`, as they are in the files."""
    match data:
        case Digits():
            return _digits(part)
        case Npz():
            return _member(data.path, f"x_{part}"), _member(data.path, f"y_{part}")
        case ImageFolder():
            return _folder(Path(data.root).expanduser(), part, data.size)
    return _public(data, part)


def _digits(part: str) -> Pair:
    """Read scikit-learn's file without scikit-learn, which takes longer to import than all the rest of a check."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ValueError("digits: scikit-learn, which brings them, is not installed; see requirements.txt")
    table = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    order = torch.randperm(len(images), generator=generator(0, "digits")).numpy()
    rows = order[:360] if part == "test" else order[360:]
    return images[rows], table[rows, 64].astype(np.int64)


def _member(path: str, key: str) -> NDArray[Any]:
    fault = f"{path}: no readable {key}; allowed: a NumPy archive (.npz) of x_train, y_train, x_test and y_test"
    with _blamed(fault), Path(path).expanduser().open("rb") as file, np.lib.npyio.NpzFile(file) as archive:
        return np.asarray(archive[key])


def _folder(root: Path, part: str, size: int) -> Pair:
    from PIL import Image
    from torchvision import datasets

    with _blamed(f"{root}: no readable listing; allowed: images in {root}/train/CLASS and {root}/test/CLASS"):
        listing, other = (datasets.ImageFolder(root / name) for name in (part, "train"))
    odd = ", ".join(sorted({*listing.classes} ^ {*other.classes}))
    _demand(not odd, f"{root}: only one of train and test has the classes {odd}; allowed: the same in both")
    images = np.empty((len(listing), size, size, 3), np.uint8)
    for row, (path, _) in enumerate(listing.samples):
        with _blamed(f"{path}: no readable image; allowed: any picture that Pillow opens"), Image.open(path) as image:
            images[row] = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    return images, np.asarray(listing.targets)


def _public(data: Public, part: str) -> Pair:
    from torchvision import datasets

    source = getattr(datasets, data.kind.upper())
    file = source.split_list[part][1] if isinstance(data, Svhn) else source.filename
    with _blamed(f"{data.kind}: no intact copy in {data.root} and no download; without network, put {file} there"):
        if isinstance(data, Svhn):
            found = source(data.root, split=part, download=True)
            return np.transpose(found.data, (0, 2, 3, 1)), found.labels
        found = source(data.root, train=part == "train", download=True)
        return found.data, np.asarray(found.targets)


@contextmanager
def _blamed(fault: str) -> Iterator[None]:
    """Report whatever fails in a library which reads the user's files as one line: `fault`, then the reason."""
    try:
        yield
    except Exception as error:  # archives, pictures and downloads fail in a dozen unrelated ways
        raise ValueError(f"{fault} ({' '.join(str(error).split()) or type(error).__name__})") from None


def _demand(holds: bool, fault: str) -> None:
    if not holds:
        raise ValueError(fault)


def _checked(name: str, part: str, pair: Pair) -> Pair:
    """Images n h w c and labels as read, made uint8 n c h w and int64 if they are sound."""
    (images, labels), shape, x, y = pair, pair[0].shape, f"{name}: x_{part}", f"{name}: y_{part}"
    _demand(images.dtype == np.uint8, f"{x} has type {images.dtype}; allowed: uint8")
    sound = len(shape) == 4 and 0 not in shape and shape[3] in (1, 3)
    _demand(sound, f"{x} has shape {shape}; allowed: (n, height, width, channels), not empty, 1 or 3 channels")
    _demand(labels.dtype.kind in "iu", f"{y} has type {labels.dtype}; allowed: integers")
    _demand(labels.shape == shape[:1], f"{y} has shape {labels.shape}; allowed: {shape[:1]}, a label for each image")
    for label in (int(labels.min()), int(labels.max())):
        _demand(0 <= label < 2**31, f"{y} holds the label {label}; allowed: 0 to the number of classes - 1")
    return np.ascontiguousarray(np.transpose(images, (0, 3, 1, 2))), labels.astype(np.int64)


def split(dataset: DataSet, how: Split, device: torch.device | str) -> Views:
    """Deal the training images out as copies on `device`; ValueError if nothing is left for the owner.

    In the order for the use "split" of the split's seed (room `rule`): queries, validation, disjoint, the owner's.
    """
    count, aside = len(dataset.y_train), how.queries + how.validation
    taken = f"{how.queries} queries and {how.validation} for validation leave the owner none of {count} training images"
    _demand(aside < count, f"{taken}; allowed: at most {count - 1} together")
    # Queries first: the query source stays the same when any other size changes.
    order = rule.order(rule.of_seed(how.seed), "split", count)
    picks = np.split(np.array(order), (how.queries, aside, aside + int(how.disjoint * (count - aside))))
    pairs = [(dataset.x_train[rows], dataset.y_train[rows]) for rows in picks] + [(dataset.x_test, dataset.y_test)]
    queries, validation, disjoint, owner, test = (Part(*(torch.tensor(a, device=device) for a in p)) for p in pairs)
    return Views(owner=owner, validation=validation, queries=queries, disjoint=disjoint, test=test)


def fit_to(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Foreign images (uint8 n c h w) in `shape` (c, h, w): antialiased, grey repeated, colour to luma (ITU-R 601)."""
    assert {images.shape[1], shape[0]} <= {1, 3}, f"{images.shape[1]} or {shape[0]} channels"
    fitted, luma = images.new_empty(len(images), *shape), torch.tensor([[[0.299]], [[0.587]], [[0.114]]])
    for start in range(0, len(images), 4096):  # in pieces: as floats at once, a large set takes many times its memory
        x = images[start : start + 4096].float()
        if shape[0] < x.shape[1]:
            x = (x * luma.to(x.device)).sum(dim=1, keepdim=True)
        x = F.interpolate(x, size=shape[1:], mode="bilinear", antialias=True, align_corners=False)
        fitted[start : start + 4096] = x.round().clamp(0, 255)
    return fitted


def scaled(images: Tensor) -> Tensor:
    """Images as the networks see them: uint8 to float32 in [0, 1], same shape."""
    return images.float() / 255
