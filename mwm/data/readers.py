"""Data sets as they lie on disk: downloads of torchvision, npz archives, folders of images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mwm.config.randomness import make_generator
from mwm.data.datasets import (
    Cifar10,
    Cifar100,
    Dataset,
    DatasetSpec,
    Digits,
    ImageFolder,
    Npz,
    Svhn,
    array_digest,
    names_fault,
    require,
)

Arrays = tuple[NDArray[Any], NDArray[Any]]

TorchvisionDataset = Cifar10 | Cifar100 | Svhn


def load_dataset(data: DatasetSpec) -> Dataset:
    """Read and check a data set; ValueError, in one line: the file or array at fault, what it is, what is allowed."""
    name = getattr(data, "path", getattr(data, "root", data.kind))
    (x_train, y_train), (x_test, y_test) = (_validated(name, part, _read(data, part)) for part in ("train", "test"))
    size, other, classes, largest = x_train.shape[1:], x_test.shape[1:], int(y_train.max()) + 1, int(y_test.max())
    require(size == other, f"{name}: x_test has images of (c, h, w) {other}; allowed: {size} as in x_train")
    held = len(np.unique(y_train))
    require(1 < held == classes, f"{name}: y_train has {held} of classes 0 to {classes - 1}; allowed: all, 2 or more")
    require(largest < classes, f"{name}: y_test holds the label {largest}; allowed: 0 to {classes - 1} as in y_train")
    names = _class_names(data)
    fault = names_fault(names, classes)
    require(not fault, f"{name}: the names of the classes are not allowed: {fault}")
    arrays = (x_train, y_train, x_test, y_test)
    return Dataset(*arrays, classes=classes, digest=array_digest(*arrays), class_names=names)


def download_note(data: DatasetSpec) -> str | None:
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


def _read(data: DatasetSpec, part: str) -> Arrays:
    """Images n h w c and labels n of the part `train` or `test`, as they are in the files."""
    match data:
        case Digits():
            return _digits(part)
        case Npz():
            return _member(data.path, f"x_{part}"), _member(data.path, f"y_{part}")
        case ImageFolder():
            return _folder(Path(data.root).expanduser(), part, data.size)
    return _public(data, part)


def _class_names(data: DatasetSpec) -> tuple[str, ...]:
    """What the classes are called, where the data say so."""
    if isinstance(data, Npz):
        with Path(data.path).expanduser().open("rb") as file, np.lib.npyio.NpzFile(file) as archive:
            if "classes" not in archive:
                return ()
        names = _member(data.path, "classes")
        require(names.dtype.kind in "US", f"{data.path}: classes has type {names.dtype}; allowed: strings")
        return tuple(np.char.decode(names, "utf-8").tolist() if names.dtype.kind == "S" else names.tolist())
    from torchvision import datasets

    if isinstance(data, ImageFolder):
        return tuple(datasets.ImageFolder(Path(data.root).expanduser() / "train").classes)
    if isinstance(data, Cifar10 | Cifar100):
        return tuple(getattr(datasets, data.kind.upper())(data.root).classes)
    return ()


def _digits(part: str) -> Arrays:
    """Read scikit-learn's file without scikit-learn, which takes longer to import than all the rest of a check."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ValueError("digits: scikit-learn, which brings them, is not installed; see requirements.txt")
    table = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    order = torch.randperm(len(images), generator=make_generator(0, "digits")).numpy()
    rows = order[:360] if part == "test" else order[360:]
    return images[rows], table[rows, 64].astype(np.int64)


def _member(path: str, key: str) -> NDArray[Any]:
    fault = f"{path}: no readable {key}; allowed: a NumPy archive (.npz) of x_train, y_train, x_test and y_test"
    with _as_value_error(fault), Path(path).expanduser().open("rb") as file, np.lib.npyio.NpzFile(file) as archive:
        return np.asarray(archive[key])


def _folder(root: Path, part: str, size: int) -> Arrays:
    from PIL import Image
    from torchvision import datasets

    with _as_value_error(f"{root}: no readable listing; allowed: images in {root}/train/CLASS and {root}/test/CLASS"):
        listing, other = (datasets.ImageFolder(root / name) for name in (part, "train"))
    odd = ", ".join(sorted({*listing.classes} ^ {*other.classes}))
    require(not odd, f"{root}: only one of train and test has the classes {odd}; allowed: the same in both")
    images = np.empty((len(listing), size, size, 3), np.uint8)
    for row, (path, _) in enumerate(listing.samples):
        with (
            _as_value_error(f"{path}: no readable image; allowed: any picture that Pillow opens"),
            Image.open(path) as image,
        ):
            images[row] = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    return images, np.asarray(listing.targets)


def _public(data: TorchvisionDataset, part: str) -> Arrays:
    from torchvision import datasets

    source = getattr(datasets, data.kind.upper())
    file = source.split_list[part][1] if isinstance(data, Svhn) else source.filename
    with _as_value_error(
        f"{data.kind}: no intact copy in {data.root} and no download; without network, put {file} there"
    ):
        if isinstance(data, Svhn):
            found = source(data.root, split=part, download=True)
            return np.transpose(found.data, (0, 2, 3, 1)), found.labels
        found = source(data.root, train=part == "train", download=True)
        return found.data, np.asarray(found.targets)


@contextmanager
def _as_value_error(fault: str) -> Iterator[None]:
    """Report whatever fails in a library which reads the user's files as one line: `fault`, then the reason."""
    try:
        yield
    except Exception as error:  # archives, pictures and downloads fail in a dozen unrelated ways
        raise ValueError(f"{fault} ({' '.join(str(error).split()) or type(error).__name__})") from None


def _validated(name: str, part: str, pair: Arrays) -> Arrays:
    """Images n h w c and labels as read, made uint8 n c h w and int64 if they are sound."""
    (images, labels), shape, x, y = pair, pair[0].shape, f"{name}: x_{part}", f"{name}: y_{part}"
    require(images.dtype == np.uint8, f"{x} has type {images.dtype}; allowed: uint8")
    sound = len(shape) == 4 and 0 not in shape and shape[3] in (1, 3)
    require(sound, f"{x} has shape {shape}; allowed: (n, height, width, channels), not empty, 1 or 3 channels")
    require(labels.dtype.kind in "iu", f"{y} has type {labels.dtype}; allowed: integers")
    require(labels.shape == shape[:1], f"{y} has shape {labels.shape}; allowed: {shape[:1]}, a label for each image")
    for label in (int(labels.min()), int(labels.max())):
        require(0 <= label < 2**31, f"{y} holds the label {label}; allowed: 0 to the number of classes - 1")
    return np.ascontiguousarray(np.transpose(images, (0, 3, 1, 2))), labels.astype(np.int64)
