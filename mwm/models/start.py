"""Weights that a network starts from: matched by their names, whoever has trained them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from mwm.config.errors import shortened
from mwm.models.build import Model, load_weights

NETWORK, NORMALISATION = "network.", "normalise."
"""How the names of weights begin in the networks of `build_model`."""

COUNTERS = "num_batches_tracked"
"""What older files leave out, and nobody needs: how many batches the statistics of a layer are of."""


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """The weights of a trained network by their names, and sixteen hex digits of all of it."""

    weights: Mapping[str, Tensor]
    digest: str


class Matched(NamedTuple):
    """Weights under the names of a network, and the names of those that it keeps: they stay fresh."""

    weights: dict[str, Tensor]
    fresh: list[str]


def start_from(network: nn.Module, record: Model, weights: Mapping[str, Tensor]) -> nn.Module:
    """Give a fresh network of a `record` the weights of a trained one; raises as `match_start` does."""
    own = network.state_dict()
    load_weights(network, own | match_start(own, record, weights).weights)
    return network


def match_start(own: Mapping[str, Tensor], record: Model, weights: Mapping[str, Tensor]) -> Matched:
    """Find the weights of a trained network that belong in the place of `own`, those of a fresh one by `record`.

    Weights of this package say how their images are normalised, and so must a record for all others. Whatever stands in
    front of all names is dropped, as `module.` of a wrapper. A layer that differs in the number of its outputs alone
    stays fresh: the last one, where the trained network tells other classes apart. Raises ValueError, in one line, for
    whatever else does not fit.
    """
    given, says = _named(own, weights)
    if record.normalize is None and not says:
        known = "0.485, 0.456, 0.406", "0.229, 0.224, 0.225"
        reason = f"these weights do not say it; mean [{known[0]}], std [{known[1]}] for torchvision's of ImageNet"
        raise ValueError(f"normalize: must be written where a network starts from weights: {reason}")
    given |= {name: value for name, value in own.items() if record.normalize and name.startswith(NORMALISATION)}
    missing = [name for name in own if name not in given and not name.endswith(COUNTERS)]
    _refuse("start: the weights lack", [*map(_short, missing)])
    _refuse("start: the network has no", [_short(name) for name in given if name not in own])
    other = [name for name, value in own.items() if name in given and given[name].shape != value.shape]
    fresh = _fresh_layer(other, own, given)
    found = {name: value for name, value in given.items() if name not in fresh}
    return Matched(found, [_short(name) for name in fresh])


def _named(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Weights under the names of a network, and whether they say how images are normalised."""
    if {f"{NORMALISATION}mean", f"{NORMALISATION}std"} <= weights.keys():
        return dict(weights), True
    inner = {name.removeprefix(NETWORK) for name in own if name.startswith(NETWORK)}
    names = list(weights)
    while names and not inner.intersection(names) and (front := _common_front(names)):
        names = [name.removeprefix(front) for name in names]
    return {NETWORK + name: value for name, value in zip(names, weights.values(), strict=True)}, False


def _common_front(names: Sequence[str]) -> str:
    """What stands in front of all names, up to and with the first dot; empty if they differ there."""
    front = names[0].partition(".")[0] + "."
    return front if all(name.startswith(front) for name in names) else ""


def _fresh_layer(other: Sequence[str], own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """The weights of the one layer with another number of outputs; ValueError for any other difference of shapes."""
    layers = {name.rpartition(".")[0] for name in other}
    outputs = {(len(own[name]), len(given[name])) for name in other if own[name].ndim and given[name].ndim}
    same = all(own[name].shape[1:] == given[name].shape[1:] for name in other)
    if other and not (len(layers) == len(outputs) == 1 and same):
        name = other[0]
        shapes = f"{tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        raise ValueError(f"start: the weights of {_short(name)} are of shape {shapes}")
    return list(other)


def _refuse(what: str, names: Sequence[str]) -> None:
    if names:
        raise ValueError(f"{what} {shortened(names)}")


def _short(name: str) -> str:
    return name.removeprefix(NETWORK)
