"""Public data sets, which torchvision downloads: by one process at a time, while the others wait."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.config.errors import reason_of
from mwm.data.datasets import PARTS, Cifar10, Cifar100, Svhn
from mwm.storage.lock import hold_lock

PublicData = Cifar10 | Cifar100 | Svhn

WAIT_SECONDS = 60.0
"""A lock file that somebody has taken away is made anew after this long."""


def download_note(data: PublicData) -> str | None:
    """What loading will download, as a sentence for the user; None if everything needed is on this machine."""
    source = _source(data)
    packed = [] if isinstance(data, Svhn) else [(source.filename, source.tgz_md5)]
    here = _is_ready(data) or (packed and _intact(data, packed))
    return None if here else f"{data.kind} will be downloaded into {data.root} on first use"


def read_public(data: PublicData) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Images n h w c and labels n of both parts, as they are, and the names of the classes; ValueError in one line."""
    source = _source(data)
    both = [source.split_list[part][1] for part in PARTS] if isinstance(data, Svhn) else [source.filename]
    try:
        if _is_ready(data):
            return _read(data, source)
        with _alone(data):
            return _read(data, source)
    except Exception as error:  # downloads and archives fail in a dozen unrelated ways
        reason = reason_of(error)
        told = f"no intact copy in {data.root} and no download; without network, put {' and '.join(both)} there"
        raise ValueError(f"{data.kind}: {told} ({reason})") from None


def _source(data: PublicData) -> Any:
    from torchvision import datasets

    return getattr(datasets, data.kind.upper())


def _is_ready(data: PublicData) -> bool:
    """Whether all that is read lies unpacked, and as it was published."""
    source = _source(data)
    if isinstance(data, Svhn):
        return _intact(data, [source.split_list[part][1:] for part in PARTS])
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return _intact(data, [(f"{source.base_folder}/{name}", md5) for name, md5 in listed])


def _intact(data: PublicData, files: Any) -> bool:
    from torchvision.datasets.utils import check_integrity

    root = Path(data.root).expanduser()
    return all(check_integrity(root / name, md5) for name, md5 in files)


@contextmanager
def _alone(data: PublicData) -> Iterator[None]:
    """Keep every other process, on all machines that share the folder, from downloading the same."""
    root = Path(data.root).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    path, told = root / f".{data.kind}.lock", False
    while True:
        with (
            path.open("a+", encoding="utf-8") as file,
            hold_lock(file, patience=WAIT_SECONDS if told else 0.0) as alone,
        ):
            if alone:
                yield
                return
        if not told:
            logging.getLogger(__name__).warning(
                "%s: another process downloads it into %s; waiting", data.kind, data.root
            )
            told = True


def _read(data: PublicData, source: Any) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    root, names = Path(data.root).expanduser(), ()
    arrays: dict[str, NDArray[Any]] = {}
    for part in PARTS:
        if isinstance(data, Svhn):
            found = source(root, split=part, download=True)
            images, labels = np.transpose(found.data, (0, 2, 3, 1)), found.labels
        else:
            found = source(root, train=part == "train", download=True)
            images, labels, names = found.data, np.asarray(found.targets), tuple(found.classes)
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    return arrays, names
