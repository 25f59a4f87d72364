"""A data set of picture files: all are read once, in the listed order, and what they are is told."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.config.errors import reason_of, shortened
from mwm.data.datasets import PARTS, Findings, ImageFolder, require
from mwm.data.listing import Listing, is_hidden, list_part, readable, scan
from mwm.data.pictures import WHITES, Picture, read_picture, to_eight_bits


def read_folder(data: ImageFolder) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], Findings]:
    """The images (n size size 3) and labels (n) of both parts, the names of the classes, and what the files are.

    Raises ValueError, in one line, for what is missing or cannot be read.
    """
    root = Path(data.root).expanduser()
    train, test = (list_part(root, part) for part in PARTS)
    odd = sorted({*train.classes} ^ {*test.classes})
    require(not odd, f"{root}: only one of train and test has the classes {shortened(odd)}; allowed: the same in both")
    numbers = {name: number for number, name in enumerate(train.classes)}  # the order in test may be another
    files = train.files + test.files
    images, pictures, whites = _read([path for path, _ in files], data)
    labels = np.array([numbers[name] for _, name in files], np.int64)
    findings, edge = _findings(root, train, test, pictures=pictures, whites=whites), len(train.files)
    parts: dict[str, NDArray[Any]] = {"x_train": images[:edge], "y_train": labels[:edge]}
    return parts | {"x_test": images[edge:], "y_test": labels[edge:]}, tuple(train.classes), findings


def _read(paths: Sequence[str], data: ImageFolder) -> tuple[NDArray[np.uint8], list[Picture], dict[str, float]]:
    """All images (n size size 3), what their files are, and the white of each kind of number.

    Raises ValueError, which names the first file and counts the others, if some cannot be read.
    """
    images = _room(len(paths), data.size)
    pictures, faults = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of faulty metadata; pictures too large to be true are refused
        warnings.filterwarnings("error", "Truncated File Read")
        for row, path in enumerate(paths):
            try:
                pixels, picture = read_picture(path, data.size, data.background)
            except Exception as error:  # pictures fail in a dozen unrelated ways
                reason = reason_of(error)
                faults.append(f"{readable(path)}: no readable image; allowed: any picture that Pillow opens ({reason})")
                continue
            pictures.append(picture)
            if not picture.depth:
                images[row] = pixels
            elif len(WHITES[picture.depth]) == 1:
                images[row] = to_eight_bits(pixels, *WHITES[picture.depth])
        if faults:
            raise ValueError(faults[0] + (f"; {len(faults) - 1} more cannot be read" if len(faults) > 1 else ""))
        whites = _whites(paths, pictures)
        # Which number is white shows when all are read. To read these again takes time, to keep them as floats memory.
        for row, picture in enumerate(pictures):
            if len(WHITES.get(picture.depth, ())) > 1:
                pixels, _ = read_picture(paths[row], data.size, data.background)
                images[row] = to_eight_bits(pixels, whites[picture.depth])
    return images, pictures, whites


def _room(count: int, size: int) -> NDArray[np.uint8]:
    """Room for images (n size size 3) that lie in memory channels first, as a data set has them: once."""
    return np.empty((count, 3, size, size), np.uint8).transpose(0, 2, 3, 1)


def _whites(paths: Sequence[str], pictures: Sequence[Picture]) -> dict[str, float]:
    """The number that is read as white, for each kind of number: the least one that no picture of the set exceeds."""
    highest: dict[str, tuple[float, str]] = {}
    for path, one in zip(paths, pictures, strict=True):
        if one.depth:
            highest[one.depth] = max(highest.get(one.depth, (0.0, "")), (one.peak, path))
    whites = {}
    for depth, (peak, path) in highest.items():
        fitting = [white for white in WHITES[depth] if peak <= white * (1 + 1e-6)]  # floats are rounded
        allowed = " or ".join(f"{white:g}" for white in WHITES[depth])
        require(bool(fitting), f"{path}: holds the value {peak:g}; allowed: values from 0, for black, to {allowed}")
        whites[depth] = fitting[0]
    return whites


def _findings(
    root: Path, train: Listing, test: Listing, *, pictures: Sequence[Picture], whites: dict[str, float]
) -> Findings:
    shapes = sorted((one.shape for one in pictures), key=lambda shape: (shape[0] * shape[1], shape))
    beside = [entry.name for entry in scan(root) if entry.name not in PARTS]
    return Findings(
        modes=dict(Counter(one.mode for one in pictures).most_common()),
        smallest=shapes[0],
        largest=shapes[-1],
        whites=whites,
        turned=sum(one.turned for one in pictures),
        composed=sum(one.composed for one in pictures),
        frames=sum(one.frames for one in pictures),
        deeper=train.deeper + test.deeper,
        hidden=train.hidden + test.hidden + sum(map(is_hidden, beside)),
        no_pictures=(*train.no_pictures, *test.no_pictures),
        unclassed=(*train.unclassed, *test.unclassed, *(readable(name) for name in beside if not is_hidden(name))),
    )
