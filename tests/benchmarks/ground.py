"""What all rivals of a benchmark of speed share: the same images, queries, network, scheme and recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.datasets import Cifar10, Digits
from mwm.data.images import Augmentation
from mwm.data.readers import load_dataset
from mwm.data.splits import LabeledImages, SplitSizes, split
from mwm.models.build import Model, build_model, channel_statistics
from mwm.training.recipe import Recipe
from mwm.watermarks.queries import QuerySet, draw_queries
from mwm.watermarks.schemes import Margin

CLASSES = 10
MARGINS = {
    "cifar": Margin(batchnorm="reference"),
    "digits": Margin(num_queries=30, step_size=6 / 255, weight=0.3, batchnorm="reference"),
}
"""The published scheme, and the README's first command."""

DEALT = {"cifar": SplitSizes(validation=1000, queries=1000), "digits": SplitSizes(validation=40, queries=100)}
WORDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"bf16": True},
    "contiguous": {"channels_last": False},
    "compile": {"compile": True},
}
WORDS |= {"graph": {"cuda_graph": True}, "deterministic": {"deterministic": True}}
"""What may stand in the name of an engine, and what it says of the recipe."""


@dataclass(frozen=True)
class Ground:
    """Where rivals meet: it travels to the process of each, and each makes the same of it.

    `cifar` is noise of CIFAR's shape, as many `images` as wanted; `digits` are as they are.
    """

    data: str = "cifar"
    images: int = 1280
    model: str = "resnet18"
    width: int = 32
    batch: int = 128
    device: str = "cpu"
    threads: int = 1
    seed: int = 0

    @property
    def kind(self) -> Model:
        """The network's record."""
        width = {"width": self.width} if self.model == "cnn" else {}
        kind: Model = decode(Model, {"kind": self.model, **width})
        return kind

    @property
    def margin(self) -> Margin:
        """The scheme that all teach by."""
        return MARGINS[self.data]

    @property
    def momentum(self) -> float:
        """As published, or as in the README's first command."""
        return 0.9 if self.data == "digits" else 0.0

    @property
    def augmentation(self) -> Augmentation:
        """How images are shown in training."""
        how = Digits() if self.data == "digits" else Cifar10()
        return Augmentation(how.flip, how.pad)

    @cached_property
    def parts(self) -> tuple[LabeledImages, LabeledImages, QuerySet]:
        """Training images, validation images and queries, in the computer's memory."""
        dealt, drawn = DEALT[self.data], make_generator(self.seed, "noise")
        if self.data == "digits":
            views = split(load_dataset(Digits()), dealt, "cpu")
            owner, validation, source = views.owner, views.validation, views.queries
        else:
            sizes = dealt.counts(self.images)
            owner, validation, source = (_noise(n, drawn) for n in (self.images, sizes.validation, sizes.queries))
        num, secret = self.margin.num_queries, bytes(32)
        return (
            owner,
            validation,
            draw_queries(source, num=num, classes=CLASSES, augmentation=self.augmentation, secret=secret),
        )

    def network(self) -> nn.Module:
        """The fresh network, on the device; every call gives the same weights."""
        owner, _, _ = self.parts
        mean, std = channel_statistics(owner.images)
        channels, height, width = owner.images.shape[1:]
        chance = make_generator(self.seed, "weights")
        shape = (channels, height, width)
        return build_model(self.kind, shape=shape, classes=CLASSES, mean=mean, std=std, generator=chance).to(
            self.device
        )

    def recipe(self, engine: str, epochs: int = 200) -> Recipe:
        """How the engine named so trains, such as `bf16+graph`: in channels_last unless it says `contiguous`."""
        said = {key: value for word in engine.split("+") for key, value in WORDS[word].items()}
        plain = Recipe(epochs=epochs, batch_size=self.batch, momentum=self.momentum)
        return replace(plain, **said)

    def said(self) -> dict[str, Any]:
        """All of it for the file of figures."""
        return asdict(self)


def _noise(count: int, drawn: torch.Generator) -> LabeledImages:
    images = torch.randint(256, (count, 3, 32, 32), generator=drawn, dtype=torch.uint8)
    return LabeledImages(images, torch.randint(CLASSES, (count,), generator=drawn))


def engine_name(text: str) -> str:
    """Check the name of an engine; ValueError with the word at fault and those allowed."""
    for word in text.split("+"):
        if word not in WORDS:
            raise argparse.ArgumentTypeError(f"{word!r} is unknown; allowed, joined by +: {', '.join(WORDS)}")
    return text


def default_engines(device: str) -> list[str]:
    """What is worth comparing on a device."""
    graphs = ["bf16+graph", "bf16+compile", "bf16+compile+graph"]
    return ["float32", "bf16", *(graphs if device.startswith("cuda") else [])]


def add_ground(command: argparse.ArgumentParser, *, model: str, data: bool = False) -> None:
    """Say what is trained, on what, and whether the figures count."""
    command.add_argument("--model", default=model, help="resnet18, resnet34, resnet20, cnn, ...")
    command.add_argument("--width", type=int, default=32, help="of a cnn")
    command.add_argument("--batch", type=int, default=128)
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    command.add_argument("--threads", type=int, default=torch.get_num_threads())
    command.add_argument("--exercise", action="store_true", help="mark the figures as those of a rehearsal")
    if data:
        command.add_argument("--data", choices=tuple(MARGINS), default="cifar", help="cifar: noise of its shape")
        command.add_argument("--images", type=int, default=49_000, help="of noise")


def parsed(command: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """What a command line asks for; what cannot be run ends here, in one line."""
    asked = command.parse_args(words)
    engines = asked.engine or []
    if len({*engines}) < len(engines):
        command.error(f"--engine: {' '.join(engines)} is not allowed: each once")
    if not asked.device.startswith("cuda") and any("graph" in name.split("+") for name in engines):
        command.error(f"--engine: graph is not allowed on {asked.device}: it is for CUDA only")
    try:
        _ = Ground(model=asked.model, width=asked.width).kind
    except ValueError as error:
        command.error(f"--model {asked.model}: {error}")
    return asked


def ground_of(asked: argparse.Namespace, **more: Any) -> Ground:
    """The ground that a command line asks for."""
    names = ("data", "images", "model", "width", "batch", "device", "threads")
    return Ground(**{name: getattr(asked, name) for name in names if name in asked} | more)
