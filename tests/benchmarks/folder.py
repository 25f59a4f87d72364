"""What a folder of large pictures takes to be read: memory beside its own bytes, and seconds of one processor.

`python -m tests.benchmarks.folder --pictures 2000 --size 224` writes JPEG files of 256x256 pixels into a folder that
goes again, and reads them in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mwm.data.datasets import ImageFolder
from mwm.data.readers import load_dataset

MIB = 2**20


def write_pictures(root: Path, *, count: int, classes: int) -> None:
    """So many training pictures (JPEG, 256x256), and a fifth of them for test, dealt to the classes in turn."""
    drawn = np.random.default_rng(0)
    for part, number in (("train", count), ("test", max(classes, count // 5))):
        for place in range(number):
            path = root / part / f"{place % classes:04}" / f"{place}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(drawn.integers(0, 256, (16, 16, 3), np.uint8))
            coarse.resize((256, 256), Image.Resampling.BILINEAR).save(path)


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_folder(root: str, size: int) -> dict[str, float]:
    """Bytes of the data set, how much the peak of this process rose by reading it, and seconds of the processor."""
    with Image.open(next((Path(root) / "train" / "0000").iterdir())) as first:
        first.resize((8, 8))  # so that Pillow's own libraries are loaded before
    before, began = _peak_kib(), time.process_time()
    dataset = load_dataset(ImageFolder(root=root, size=size))
    spent = time.process_time() - began
    held = dataset.x_train.nbytes + dataset.x_test.nbytes
    return {"bytes": held, "peak": (_peak_kib() - before) * 1024, "seconds": spent, "classes": dataset.classes}


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        write_pictures(Path(root), count=asked.pictures, classes=asked.classes)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            told = pool.apply(read_folder, (root, asked.size))
    share = told["peak"] / told["bytes"]
    print(
        f"{asked.pictures} + {max(asked.classes, asked.pictures // 5)} pictures, {told['classes']:.0f} classes, "
        f"{asked.size}x{asked.size}: data set {told['bytes'] / MIB:.0f} MiB, peak {told['peak'] / MIB:.0f} MiB more "
        f"than before ({share:.2f} times), {told['seconds']:.1f} s of a processor"
    )


if __name__ == "__main__":
    main()
