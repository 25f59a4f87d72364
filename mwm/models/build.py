"""Networks with the normalisation inside: images in [0, 1] go in, one logit per class comes out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from mwm.config.errors import reason_of
from mwm.config.spec import DISCRIMINATED, Count, encode, spec
from mwm.config.trust import require_trust
from mwm.models.deployed import Deployment, deployed
from mwm.models.int8 import round_named_inputs
from mwm.models.networks import (
    Cnn,
    DrawnNetwork,
    PythonNetwork,
    ResNet,
    ResNet20,
    Torchvision,
    build_cnn,
    build_resnet20,
    reset_convolutions,
)
from mwm.models.torchvision_networks import build_torchvision, check_name

Model = Annotated[ResNet | ResNet20 | Cnn | Torchvision | PythonNetwork, *DISCRIMINATED]


@spec
class ArchitectureSpec:
    """What rebuilds a network from its weights: images of `shape` (c, h, w) go in, `classes` logits come out.

    `deployments` stand around it, the innermost first.
    """

    model: Model
    shape: tuple[Count, Count, Count]
    classes: Count
    deployments: tuple[Deployment, ...] = ()

    def tree(self) -> dict[str, Any]:
        """What is kept of it with the weights: of a network that stands alone the same as ever."""
        tree = encode(self)
        return tree if self.deployments else {name: value for name, value in tree.items() if name != "deployments"}


class Normalize(nn.Module):
    """Centre and scale each channel; the statistics are buffers, so that they travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take one mean and one positive standard deviation per channel, in image units ([0, 1])."""
        super().__init__()
        assert len(mean) == len(std), f"{len(mean)} means for {len(std)} deviations"
        assert min(std) > 0, f"deviations must be positive: {std}"
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n c h w) in [0, 1] to about zero mean and unit variance."""
        return (images - self.mean) / self.std


def build_model(
    model: Model,
    *,
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
) -> nn.Module:
    """A fresh network for images of `shape` (c, h, w): float images (n c h w) in [0, 1] to logits (n classes).

    The weights follow from the seed of `generator` alone; neither it nor the global random state moves. Two modules:
    `normalise`, with `mean` and `std` per channel unless the record has constants of its own, and `network`. Raises
    ValueError for images so small that a training batch of one image would leave batch norm one value a channel, for
    constants of another number of channels, and for what a function of the user's raises.
    """
    assert len(mean) == shape[0], f"{len(mean)} means for {shape[0]} channels"
    _check_record("model", model, shape)
    if model.normalize is not None:
        mean, std = model.normalize.mean, model.normalize.std
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())  # torch.manual_seed would reseed the GPUs as well
        network = _network(model, shape, classes)
        if isinstance(model, DrawnNetwork) and model.init == "pytorch":
            reset_convolutions(network)
    return nn.Sequential(OrderedDict(normalise=Normalize(mean, std), network=network))


def rebuild_model(architecture: ArchitectureSpec, weights: Mapping[str, Tensor], *, trust: bool = False) -> nn.Module:
    """A trained network from its weights, in evaluation mode.

    It never has initial weights: a record that names a huge network takes no memory before it is refused. Where layers
    round their inputs to 8 bits, the names of the weights say so. Raises RuntimeError if the weights are another
    network's, and ValueError for a function of somebody's that is not trusted.
    """
    if isinstance(architecture.model, PythonNetwork):
        require_trust(f"model: {architecture.model.function}", "callable", trust=trust)
    network = blank_model(architecture).requires_grad_(False)
    round_named_inputs(network, weights)
    kinds = {name: value.dtype for name, value in network.state_dict().items()}
    load_weights(network, {name: value.to(kinds.get(name)) for name, value in weights.items()}, assign=True)
    return network.eval()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Give a network weights from a file, which does not say of which version of a layer they are: of today's.

    `assign`: they take the place of the network's own, and are not copied into them. Raises RuntimeError if they are
    another network's.
    """
    state = network.state_dict()  # the versions of its layers are an attribute of the dictionary
    state.clear()
    state.update(weights)
    network.load_state_dict(state, assign=assign)


def blank_model(architecture: ArchitectureSpec) -> nn.Module:
    """A network whose weights take no memory, and have no values; that of a function has those that it gives."""
    blank = [1.0] * architecture.shape[0]
    with _Undrawn() if not isinstance(architecture.model, PythonNetwork) else nullcontext():
        network = build_model(
            architecture.model,
            shape=architecture.shape,
            classes=architecture.classes,
            mean=blank,
            std=blank,
            generator=torch.Generator(),
        )
    return deployed(network, architecture.deployments)


def check_network(path: str, model: Model, *, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a network that does not go with images of `shape` (c, h, w) and so many classes; `path`: its place.

    A network of torchvision, or of a function, is built for it, and shown an image, as a training would. Raises
    ValueError in one line.
    """
    _check_record(path, model, shape)
    if isinstance(model, Torchvision | PythonNetwork) and (fault := _tried(model, shape, classes).fault):
        raise ValueError(f"{path}: {model.label} is not allowed{fault}")


def has_batch_norm(model: Model, shape: tuple[int, int, int], classes: int) -> bool:
    """Whether the network of a record, which was checked, normalises batches and keeps running statistics."""
    return not isinstance(model, Torchvision | PythonNetwork) or _tried(model, shape, classes).batch_norm


def network_has_batch_norm(model: nn.Module) -> bool:
    """Whether a network normalises batches and keeps running statistics."""
    return any(isinstance(layer, _BatchNorm) and layer.running_mean is not None for layer in model.modules())


class _Tried(NamedTuple):
    """What became of an attempt to show a network an image."""

    fault: str
    batch_norm: bool = False


@lru_cache(maxsize=64)
def _tried(model: Model, shape: tuple[int, int, int], classes: int) -> _Tried:
    """Build a network, and show it as few images as training may: every network of a sweep is tried once.

    One image, but two where a BatchNorm1d has nothing in an image to take a mean over.
    """
    size, device = "x".join(map(str, shape)), "cpu" if isinstance(model, PythonNetwork) else "meta"
    try:
        network = blank_model(ArchitectureSpec(model=model, shape=shape, classes=classes)).to(device).train()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            number = 2 if any(isinstance(layer, nn.BatchNorm1d) for layer in network.modules()) else 1
            found: Any = network(torch.zeros(number, *shape, device=device))
    except Exception as error:
        return _Tried(f" for images of {size}: {reason_of(error)}")
    answered = f"({', '.join(map(str, found.shape))})" if isinstance(found, Tensor) else type(found).__name__
    if answered != (asked := f"({number}, {classes})"):
        images = "one image" if number == 1 else "two images"
        return _Tried(f": to {images} of {size} it answers with {answered}, not with logits {asked}")
    return _Tried("", network_has_batch_norm(network))


def _check_record(path: str, model: Model, shape: tuple[int, int, int]) -> None:
    """Refuse what a look at the record shows."""
    if isinstance(model, Torchvision):
        check_name(f"{path}.name", model.name)
    given = shape[0] if model.normalize is None else len(model.normalize.mean)
    if given != shape[0]:
        reason = f"images have {shape[0]}"
        raise ValueError(f"{path}.normalize: constants for {given} channels are not allowed: {reason}")
    side, least = min(shape[1:]), min_image_side(model)
    if side < least:
        raise ValueError(f"{path}: {model.label} is not allowed for images {side} pixels wide: it needs {least}")


def min_image_side(model: Model) -> int:
    """The smallest image side in pixels which leaves at least 2x2 values per channel in front of the global pool.

    1 where only a try can tell.
    """
    match model:
        case Cnn(depth=depth):
            return int(2**depth)
        case ResNet20():
            return 5
        case ResNet():
            return 9
    return 1


def count_parameters(model: nn.Module) -> int:
    """The size of a network: how many numbers training may change, normalisation statistics not among them."""
    return sum(weight.numel() for weight in model.parameters())


def channel_statistics(images: Tensor | Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels of uint8 images (n c h w), in image units ([0, 1]).

    `images` are all at once, or in batches. From a histogram of grey levels, so exact. A deviation is at least 1/255,
    for the sake of a constant channel.
    """
    histogram: Any = sum(map(_grey_levels, [images] if isinstance(images, Tensor) else images))
    means, deviations = [], []
    for counts in histogram.tolist():
        n, first, second = (sum(count * level**power for level, count in enumerate(counts)) for power in range(3))
        means.append(first / (255 * n))
        deviations.append(max((n * second - first**2) ** 0.5 / n, 1) / 255)
    return means, deviations


def _grey_levels(images: Tensor) -> Tensor:
    """How often each channel has each grey level (c 256)."""
    assert images.dtype == torch.uint8, f"uint8 images expected, not {images.dtype}"
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])


class _Undrawn(TorchFunctionMode):
    """Has weights take no memory, and leaves out all random draws.

    What is empty, as all weights are at first, is on the meta device. Draws would give nothing there, and load
    PyTorch's compiler, a second long.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))


def _network(model: Model, shape: tuple[int, int, int], classes: int) -> nn.Module:
    channels = shape[0]
    match model:
        case Cnn(width=width, depth=depth):
            return build_cnn(channels, classes, [width * 2**level for level in range(depth)])
        case ResNet20():
            return build_resnet20(channels, classes)
        case ResNet(kind=kind):
            return build_torchvision(kind, stem="small", shape=shape, classes=classes)
        case Torchvision(name=name, stem=stem):
            return build_torchvision(name, stem=stem, shape=shape, classes=classes)
        case PythonNetwork():
            built = model.call(shape=shape, classes=classes)
            if not isinstance(built, nn.Module):
                raise ValueError(f"{model.function} returns a {type(built).__name__}, not an nn.Module")
            return built
