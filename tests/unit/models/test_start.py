"""Weights that a network starts from: matched by name, refused in one line where they are another network's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mwm.models.build import Model, build_model
from mwm.models.networks import Cnn, Normalization, ResNet20
from mwm.models.start import match_start, start_from

GREY = Normalization(mean=(0.25,), std=(0.5,))
SMALL = Cnn(width=3, depth=2)
SAID = replace(SMALL, normalize=GREY)


def make(model: Model, classes: int = 5, seed: int = 0) -> nn.Module:
    drawn = torch.Generator().manual_seed(seed)
    return build_model(model, shape=(1, 8, 8), classes=classes, mean=[0.5], std=[0.3], generator=drawn)


def inside(network: nn.Module) -> dict[str, Tensor]:
    """The weights as somebody who does not know this package would have saved them."""
    return network.get_submodule("network").state_dict()


def same(one: nn.Module, other: nn.Module) -> bool:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    return torch.equal(one.eval()(images), other.eval()(images))


@pytest.mark.parametrize("front", ["", "module.", "model.net.", "_orig_mod.module."])
def test_weights_of_elsewhere_are_found_by_their_names(front: str) -> None:
    trained, network = make(SAID, seed=1), make(SAID, seed=2)
    assert not same(trained, network)
    start_from(network, SAID, {front + name: value for name, value in inside(trained).items()})
    assert same(trained, network)


def test_weights_of_ours_bring_their_normalisation() -> None:
    trained, network = make(SAID, seed=1), make(SMALL, seed=2)
    start_from(network, SMALL, trained.state_dict())
    assert same(trained, network)
    assert network.state_dict()["normalise.mean"].item() == 0.25


def test_what_a_record_says_of_normalisation_holds() -> None:
    trained, network = make(SMALL, seed=1), make(SAID, seed=2)
    start_from(network, SAID, trained.state_dict())
    assert network.state_dict()["normalise.mean"].item() == 0.25
    with pytest.raises(ValueError, match=r"^normalize: must be written where a network starts from weights"):
        start_from(make(SMALL), SMALL, inside(trained))


def test_precision_and_counters_may_differ() -> None:
    trained, network = make(SAID, seed=1), make(SAID, seed=2)
    start_from(
        network, SAID, {name: value.half() for name, value in inside(trained).items() if "num_batches" not in name}
    )
    for name, value in inside(network).items():
        assert value.dtype == inside(trained)[name].dtype
        torch.testing.assert_close(value, inside(trained)[name], rtol=1e-3, atol=1e-3)


def test_a_last_layer_of_other_classes_stays_fresh() -> None:
    trained, network, fresh = make(SAID, classes=9, seed=1), make(SAID, seed=2), make(SAID, seed=2)
    assert match_start(network.state_dict(), SAID, inside(trained)).fresh == ["fc.weight", "fc.bias"]
    start_from(network, SAID, inside(trained))
    for name, value in inside(network).items():
        source = fresh if name.startswith("fc.") else trained
        assert torch.equal(value, inside(source)[name]), name


def without(weights: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name not in names}


def test_what_does_not_fit_is_one_line() -> None:
    weights = inside(make(SAID))
    wide = inside(make(Cnn(width=4, depth=2)))
    for given, line in (
        (without(weights, "fc.bias"), "start: the weights lack fc.bias"),
        ({**weights, "extra.weight": torch.ones(1)}, "start: the network has no extra.weight"),
        (wide, "start: the weights of conv0.weight are of shape (4, 1, 3, 3), not (3, 1, 3, 3)"),
        ({}, "start: the weights lack conv0.weight, norm0.weight, norm0.bias and 9 more"),
    ):
        with pytest.raises(ValueError, match="start: ") as refused:
            start_from(make(SAID), SAID, given)
        assert str(refused.value) == line
    with pytest.raises(ValueError, match="the weights lack") as refused:
        start_from(make(SAID), SAID, inside(make(ResNet20())))
    assert "\n" not in str(refused.value)
