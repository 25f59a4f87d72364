"""What an attacker is given: the access that its threat model grants, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from mwm.data.datasets import Dataset
from mwm.data.host import Images
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages, SplitSizes
from mwm.models.build import Model
from mwm.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Access:
    """What every attacker has: labelled images of its own, how they may be augmented, and the number of classes.

    `validation` is the owner's: it is reported on, and used only where a recipe says so. `seed` drives all chances;
    `victim_seed` is that of the victim's training. `starts` are weights of trained networks, under the names by which
    records call them. `others` are networks of somebody else that can be asked, too, by the seeds of their trainings.
    `foreign` are the training images of further data sets that the attacker has, by the records that name them.
    `start` is the state of an interrupted attack to resume from.
    """

    images: LabeledImages[Images]
    validation: LabeledImages[Images]
    classes: int
    augmentation: Augmentation
    seed: int
    victim_seed: int = 0
    starts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)
    others: Mapping[int, nn.Module] = field(default_factory=dict, repr=False)
    foreign: Mapping[Any, LabeledImages[Images]] = field(default_factory=dict, repr=False)
    start: dict[str, Any] | None = None

    @property
    def calls(self) -> int | None:
        """How many images an oracle was asked for so far; None without an oracle."""
        return None


class Answering(Protocol):
    """What answers to images: an `Oracle`, or several of them as one."""

    @property
    def calls(self) -> int:
        """How many images were asked for; waits for the device."""

    def __call__(self, images: Tensor) -> Tensor:
        """Answers to images (n c h w in [0, 1])."""

    def ask_all(self, images: Images) -> Tensor:
        """Answers to any number of images (uint8 n c h w), each asked once."""

    def memoized(self, images: Images) -> Callable[[Tensor], Tensor]:
        """What takes numbers of images (k) of these, and gives their answers, at as many calls."""


@dataclass(frozen=True, kw_only=True)
class BlackBoxAccess(Access):
    """The victim answers; its weights stay unseen, and every image asked for is counted."""

    oracle: Answering

    @property
    def calls(self) -> int:
        """Those of the oracle; waits for the device."""
        return self.oracle.calls


@dataclass(frozen=True, kw_only=True)
class WhiteBoxAccess(Access):
    """The attacker holds a copy of the victim's network, and may change it."""

    model: nn.Module


class Target(Protocol):
    """The record of a victim, as far as an attack may follow it."""

    @property
    def data(self) -> Any:
        """The record of its data set."""

    @property
    def split(self) -> SplitSizes:
        """Who gets how many of its images."""

    @property
    def model(self) -> Model:
        """Its network."""

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""

    @property
    def start(self) -> str | None:
        """The weights that its training starts from, if it does."""

    @property
    def seed(self) -> int | None:
        """From which its random weights follow; None of a network that was attacked before."""


@dataclass(frozen=True, kw_only=True)
class TargetFacts:
    """What an attack is validated against, before anything runs.

    `path` is where the attack stands in the user's file. `datasets` are those that are on this machine, by the record
    that names them; what is not among them goes unchecked.
    """

    path: str
    victim: Target
    datasets: Mapping[Any, Dataset]

    @property
    def dataset(self) -> Dataset | None:
        """The victim's data set, if it is here."""
        return self.datasets.get(self.victim.data)

    def is_victims(self, data: Any) -> bool:
        """Whether the record of a data set names the victim's: by itself, or by its content."""
        known, own = self.datasets.get(data), self.dataset
        return data == self.victim.data or (known is not None and own is not None and known.digest == own.digest)
