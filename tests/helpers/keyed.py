"""A small data set and a key drawn from it, for tests of more than one room."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mwm.config import randomness
from mwm.config.spec import encode
from mwm.data.datasets import Dataset, Npz, array_digest
from mwm.data.images import Augmentation
from mwm.data.splits import SplitSizes, split
from mwm.storage.filesystem import write_atomic
from mwm.storage.sealed import seal
from mwm.storage.store import KEY
from mwm.watermarks.key import Key, to_files
from mwm.watermarks.queries import TENSORS, draw_queries

CREATED = "2026-01-02T03:04:05Z"
OWN = SplitSizes(validation=5, queries=30, disjoint=0.25, seed=4)


def pictures(seed: int = 0, classes: int = 5) -> Dataset:
    """Eighty random images of 4 × 3 pixels."""
    images = np.random.default_rng(seed).integers(0, 256, (80, 1, 4, 3), dtype=np.uint8)
    labels = np.arange(80) % classes
    arrays = (images[:60], labels[:60], images[60:], labels[60:])
    return Dataset(*arrays, classes=classes, digest=array_digest(*arrays))


def archive(path: Path, dataset: Dataset) -> Path:
    """A data set as a file that `data.load` reads."""
    images = {f"x_{part}": getattr(dataset, f"x_{part}").transpose(0, 2, 3, 1) for part in ("train", "test")}
    np.savez(path, **images, y_train=dataset.y_train, y_test=dataset.y_test)
    return path


def drawn(
    dataset: Dataset,
    *,
    num: int = 12,
    secret: bytes | None = None,
    flip: bool = True,
    pad: int = 1,
    how: SplitSizes = OWN,
) -> Key:
    """The key that a secret gives; without one, that of seed 0."""
    held, source = secret or randomness.secret_from_seed(0), split(dataset, how, "cpu").queries
    return Key(
        queries=draw_queries(
            source, num=num, classes=dataset.classes, augmentation=Augmentation(flip=flip, pad=pad), secret=held
        ),
        secret=held,
        classes=dataset.classes,
        scheme="margin",
        data=encode(Npz(path="own.npz", flip=flip, pad=pad)),
        split=encode(how),
        data_digest=dataset.digest,
        guessable=secret is None,
        created=CREATED,
        method=2,
    )


def save(key: Key, folder: Path) -> None:
    """Write a key into a folder, as the store does."""
    for name, content in to_files(key).items():
        write_atomic(folder / name, content)


def same(one: Key, other: Key) -> bool:
    """Whether two keys agree in everything."""
    plain = [field.name for field in fields(Key) if field.name != "queries"]
    return all(torch.equal(getattr(one.queries, name), getattr(other.queries, name)) for name in TENSORS) and all(
        getattr(one, name) == getattr(other, name) for name in plain
    )


def sealed_again(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what key.json says, as somebody would who knows how it is sealed."""
    content = json.loads((folder / KEY).read_bytes())
    del content["sha256"]
    change(content)
    (folder / KEY).write_bytes(seal(content))


def altered(values: torch.Tensor) -> torch.Tensor:
    changed = values.clone()
    changed.view(-1)[0] ^= 1
    return changed
