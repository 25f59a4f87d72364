"""Small engines in front of their first step, and what their steps do: for the engine's tests on a CPU and on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.build import Model, build_model
from mwm.models.networks import Cnn
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import TrainStep
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Margin, TriggerSet, Unwatermarked

CLASSES, BATCH = 5, 12
SHAPES: dict[str, tuple[int, int, int]] = {"cnn": (1, 8, 8), "resnet20": (3, 9, 9)}
MARGIN = Margin(queries_per_step=6)


class Call(NamedTuple):
    """An operation, the shapes that went in, and its last argument."""

    name: str
    shapes: tuple[Any, ...]
    last: Any


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation within."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = tuple(tuple(arg.shape) for arg in args if isinstance(arg, Tensor))
        self.calls.append(Call(str(func), shapes, args[-1] if args else None))
        return func(*args, **(kwargs or {}))


def learnable(n: int, *, shape: tuple[int, int, int], classes: int, seed: int) -> LabeledImages:
    """Images that can be learnt: a pattern for each class under noise."""
    drawn = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, *shape, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (n,), generator=drawn)
    noisy = 0.6 * patterns[labels] + 0.4 * torch.rand(n, *shape, generator=drawn)
    return LabeledImages((noisy * 255).byte(), labels)


def some(n: int, kind: str = "cnn", seed: int = 0) -> LabeledImages:
    return learnable(n, shape=SHAPES[kind], classes=CLASSES, seed=seed)


def network(model: Model) -> nn.Module:
    shape = SHAPES[model.kind]
    drawn = torch.Generator().manual_seed(1)
    mean, std = [0.5] * shape[0], [0.3] * shape[0]
    return build_model(model, shape=shape, classes=CLASSES, mean=mean, std=std, generator=drawn)


def engine(
    model: Model, scheme: Any = MARGIN, device: str = "cpu", dtype: torch.dtype = torch.float32, **speed: Any
) -> TrainStep:
    """An engine in front of its first step."""
    part, marks = some(5 * BATCH, model.kind), some(9, model.kind, 1)
    queries = QuerySet(marks.images, (marks.labels + 1) % CLASSES, marks.labels).to(torch.device(device))
    recipe = Recipe(batch_size=BATCH, lr=0.02, momentum=0.9, **speed)
    training = TrainState(network(model).to(device, dtype), recipe)
    part = LabeledImages(part.images.to(device), part.labels.to(device))
    made = TrainStep(training, part, scheme.objective(queries), augmentation=Augmentation(flip=True, pad=1))
    made.start_epoch(3, 0)
    return made


def go(engine: TrainStep, steps: int) -> None:
    n, device = len(engine.part), engine.part.images.device
    for step in range(steps):
        engine.step((torch.arange(BATCH, device=device) + 7 * step) % n, 0.02 / (1 + step))


def state(engine: TrainStep) -> Tensor:
    """All that was learnt, as one vector."""
    values = engine.training.model.state_dict().values()
    return torch.cat([value.detach().double().flatten().cpu() for value in values if value.is_floating_point()])


def apart(one: TrainStep, other: TrainStep) -> float:
    """How far all that one training learnt is from the other's, relative to that."""
    difference = state(one) - state(other)
    return float(difference.norm() / state(other).norm())


MODES = [Margin(queries_per_step=6, batchnorm=mode) for mode in ("reference", "clean", "frozen", "joint")]
MARKS: list[Any] = [*MODES, TriggerSet(queries_per_step=6), Unwatermarked()]
SMALL = Cnn(width=4, depth=2)


def called(value: Any) -> str:
    return "-".join(str(getattr(value, name)) for name in ("kind", "batchnorm") if hasattr(value, name))
