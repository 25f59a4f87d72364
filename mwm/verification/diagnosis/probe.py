"""The images by which is found out how a suspect wants to be asked, with their true classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.config.randomness import keyed_permutation, secret_from_seed
from mwm.config.spec import decode
from mwm.data.datasets import Dataset, DatasetSpec
from mwm.data.readers import download_note, load_dataset
from mwm.verification.querying.order import OrderedQueries
from mwm.watermarks.key import Key

MOST = 50
"""Images that are shown in each way at most."""

OWN, KEYS = "the owner's test images", "the key's images by their true classes"


@dataclass(frozen=True, eq=False)
class Probe:
    """Images (uint8 n c h w) and their true classes (int64 n), and where they are from. No secret label is among it."""

    images: NDArray[np.uint8]
    truth: NDArray[np.int64]
    classes: int
    source: str

    def questions(self) -> OrderedQueries:
        """What is asked; where a key has its secret labels, here are the true ones."""
        numbers = list(range(len(self.truth)))
        images: Any = {"images": self.images, "numbers": numbers, "cells": numbers, "places": np.array(numbers)}
        return OrderedQueries(**images, labels=self.truth, truth=self.truth, classes=self.classes)


def make_probe(key: Key) -> Probe:
    """Test images of the key's own data where they lie on this machine, else the images of the key."""
    source = OWN
    own = _data(key)
    if own is None:
        source, images, truth = KEYS, key.queries.images.cpu().numpy(), key.queries.truth.cpu().numpy()
    else:
        images, truth = own.x_test, own.y_test
    chosen = keyed_permutation(secret_from_seed(0), "inquiry", len(truth))[:MOST]
    return Probe(images[chosen], truth[chosen], key.classes, source)


def _data(key: Key) -> Dataset | None:
    """The data set of a key, if it can be read without a download, and is the very one."""
    try:
        data: DatasetSpec = decode(DatasetSpec, key.data)
        found = None if download_note(data) else load_dataset(data)
    except (ValueError, OSError):
        return None
    return found if found is not None and found.digest == key.data_digest and len(found.y_test) else None
