"""Ways in which images reach a training: what they take of time and memory, and whether the host keeps up.

`device` has a copy of all images on the device, as the product has where they fit. `host` reads each batch from an
array in memory, as the product does where they do not. `mapped` does so from a file that is mapped into memory, and
`store` from Ray's object store, where the images of a sweep are. `ray` has Ray Data shuffle and hand over batches. All
train the same network by the same recipe, an epoch a turn.

The images are noise. Seconds until the first batch are those of a process that finds them in a file, Ray running. `own`
is memory of the training's process alone, `shared` what others can share of it. The exit status is 1 if `host` takes
longer than `device` by more than a ninth.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.host import Images, picked
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages, copied, on_host
from mwm.models.build import Model, build_model
from mwm.training.device import retain_freed_memory
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import TrainStep
from mwm.watermarks.schemes.none import clean_loss
from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.rivals import Rival, Turn, compared, race

CLASSES, RATE = 10, 0.01
WAYS = ("device", "host", "mapped", "store", "ray")
ENOUGH = 0.9
"""Of the speed of images on the device, what images on the host must reach."""

RESIDENT = ("RssAnon", "RssFile", "RssShmem")
"""Kinds of resident memory (proc(5)), of which the first is a process's own."""

Batches = Callable[["Ground", int], Iterable[tuple[Tensor, Tensor | None]]]
"""The batches of an epoch: the numbers of their images, and these images unless they are on the device."""


@dataclass(frozen=True)
class Ground:
    """Where ways meet: so many square images of a file, and how they are learnt."""

    file: str
    count: int
    model: str
    width: int
    batch: int
    threads: int
    device: str

    def read(self, *, mapped: bool = False) -> NDArray[np.uint8]:
        """The images (uint8 n 3 side side)."""
        images: NDArray[np.uint8] = np.load(self.file, mmap_mode="r" if mapped else None)
        return images

    def labels(self) -> NDArray[np.int64]:
        """A class for each."""
        return np.arange(self.count) % CLASSES

    def order(self, epoch: int) -> Tensor:
        """The images of an epoch by their numbers, in whole batches."""
        drawn = make_generator(0, "order", epoch, device=self.device)
        every = torch.randperm(self.count, generator=drawn, device=self.device)
        return every[: self.count // self.batch * self.batch]

    def engine(self, part: LabeledImages[Images]) -> TrainStep:
        """The product's engine."""
        retain_freed_memory()
        kind: Model = decode(Model, {"kind": self.model, **({"width": self.width} if self.model == "cnn" else {})})
        shape, drawn = (3, part.images.shape[2], part.images.shape[3]), make_generator(0, "weights")
        network: nn.Module = build_model(
            kind, shape=shape, classes=CLASSES, mean=[0.5] * 3, std=[0.3] * 3, generator=drawn
        )
        training = TrainState(network.to(self.device), Recipe(batch_size=self.batch, momentum=0.9))
        return TrainStep(training, part, clean_loss, augmentation=Augmentation(flip=True, pad=4))


def fed(ground: Ground, way: str) -> Turn:
    """Epochs of a training that is fed in a way."""
    ray: Any = _started_ray(ground) if way in ("store", "ray") else None
    began = time.perf_counter()
    images = ground.read(mapped=way == "mapped")
    if way == "store":
        images = ray.get(ray.put(images))
    part: LabeledImages[Any] = on_host(images, ground.labels(), device=ground.device)
    if way == "device":
        part = copied(part)
    batches: Batches = partial(_by_ray, ray, ray.put(images)) if way == "ray" else partial(_by_product, part)
    del images
    next(iter(batches(ground, 0)))
    startup, engine, epochs = time.perf_counter() - began, ground.engine(part), count()

    def turn() -> dict[str, float]:
        epoch = next(epochs)
        engine.start_epoch(0, epoch)
        for pick, pixels in batches(ground, epoch):
            engine.step(pick, RATE, pixels)
        return {"loss": engine.total.item(), "startup": startup, **resident()}

    return turn


def _by_product(part: LabeledImages[Any], ground: Ground, epoch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """As the product's loop does."""
    order = ground.order(epoch)
    here = isinstance(part.images, Tensor)
    sent: Iterable[Any] = repeat(None) if here else picked(part.images, order, ground.batch)
    return zip(torch.split(order, ground.batch), sent, strict=False)


def _by_ray(ray: Any, images: Any, ground: Ground, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Ray Data: numbers in a random order, for which its workers read images from the object store."""

    def read(numbers: dict[str, Any]) -> dict[str, Any]:
        return {"row": numbers["id"], "image": ray.get(images)[numbers["id"]]}

    numbers = ray.data.range(ground.count).random_shuffle(seed=epoch)
    rows = numbers.map_batches(read, batch_size=ground.batch)
    for batch in rows.iter_torch_batches(batch_size=ground.batch, drop_last=True, prefetch_batches=2):
        yield batch["row"], batch["image"]


def _started_ray(ground: Ground) -> Any:
    import ray
    import ray.data

    held = 3 * Path(ground.file).stat().st_size + 2**27
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=held)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def resident() -> dict[str, float]:
    """MiB of this process that are its own, and those that others can share: files and shared memory."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    own, *shared = (int(re.findall(rf"^{name}:\s*(\d+) kB$", told, re.MULTILINE)[0]) / 1024 for name in RESIDENT)
    return {"own": own, "shared": sum(shared)}


def noise(folder: str, asked: argparse.Namespace) -> Ground:
    """Images of noise in a file."""
    file = Path(folder) / "images.npy"
    drawn = np.random.default_rng(0)
    np.save(file, drawn.integers(0, 256, (asked.images, 3, asked.side, asked.side), dtype=np.uint8))
    how = {name: getattr(asked, name) for name in ("model", "width", "batch", "threads", "device")}
    return Ground(file=str(file), count=asked.images, **how)


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch of each way against those on the device; startup and memory of its last turn."""
    with tempfile.TemporaryDirectory(prefix="mwm-feeding-") as folder:
        ground = noise(folder, asked)
        rivals = [Rival(way, partial(fed, ground, way), asked.device, asked.threads) for way in asked.ways]
        samples = race(rivals, rounds=asked.rounds, warm=1, pause=asked.pause)
    found = compared(samples, "device")
    for way, figures in found.items():
        figures |= {key: samples[way][-1][key] for key in ("startup", "own", "shared")}
    return {"rivals": found, "samples": samples}


def too_slow(found: Mapping[str, Any]) -> bool:
    """Whether images on the host do not keep up with those on the device."""
    return "host" in found and found["host"]["ratios"]["median"] < ENOUGH


def command_line() -> argparse.ArgumentParser:
    """What may be asked."""
    command = parser(__doc__)
    command.add_argument(
        "--ways", nargs="+", choices=WAYS, default=["device", "host"], help="device must be among them"
    )
    command.add_argument("--images", type=int, default=5000)
    command.add_argument("--side", type=int, default=32, help="pixels")
    command.add_argument("--model", default="cnn")
    command.add_argument("--width", type=int, default=32, help="of a cnn")
    command.add_argument("--batch", type=int, default=128)
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--device", default="cpu")
    command.add_argument("--rounds", type=int, default=9)
    command.add_argument("--pause", type=float, default=0.2, help="seconds before each turn")
    return command


def main() -> int:
    """Measure and print; 1 if images on the host are too slow."""
    asked = command_line().parse_args()
    found = measured(asked)
    lines = [
        (
            way,
            f"{one['seconds']['median']:.3f}",
            f"{one['ratios']['median']:.2f}",
            f"{one['ratios']['low']:.2f}-{one['ratios']['high']:.2f}",
            *(f"{one[key]:.{digits}f}" for key, digits in (("startup", 2), ("own", 0), ("shared", 0))),
        )
        for way, one in found["rivals"].items()
    ]
    size = asked.images * 3 * asked.side**2 / 2**20
    title = (
        f"{asked.model}, {asked.images} images of {asked.side} pixels ({size:.0f} MiB), epochs of {asked.rounds} rounds"
    )
    headings = ("way", "median s", "of device's speed", "quartiles", "first batch, s", "own MiB", "shared MiB")
    show(title, headings, lines)
    publish(asked.output, machine(asked.device), found)
    return int(too_slow(found["rivals"]))


if __name__ == "__main__":
    sys.exit(main())
