"""Networks of torchvision, and of functions of the user's own: which images they take, and what they give."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from mwm.config.spec import decode
from mwm.models.build import ArchitectureSpec, Model, build_model, check_network, has_batch_norm, rebuild_model
from mwm.models.networks import PythonNetwork, ResNet, Torchvision
from mwm.models.torchvision_networks import classification_networks

FAMILIES = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"),
    *("mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5"),
    *("squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16", "wide_resnet50_2"),
]
"""A network of each family."""

NAMES = classification_networks(), FAMILIES

SMALL = {
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "googlenet": 32, "maxvit_t": 112,
    "mnasnet0_5": 32, "mobilenet_v3_small": 32, "regnet_y_400mf": 32, "resnext50_32x4d": 32, "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32, "swin_t": 32, "swin_v2_t": 32, "vit_b_16": 32,
}  # fmt: skip
"""Sides of images that go with the small stem."""


def make(model: Model, shape: tuple[int, int, int], *, classes: int = 5, seed: int = 0) -> nn.Module:
    blank = [1.0] * shape[0]
    drawn = torch.Generator().manual_seed(seed)
    return build_model(model, shape=shape, classes=classes, mean=blank, std=blank, generator=drawn)


def test_every_family_is_tried() -> None:
    every, tried = ({name.split("_")[0].rstrip("0123456789") for name in names} for names in NAMES)
    assert every == tried


@pytest.mark.parametrize(
    "name", [one if one in FAMILIES else pytest.param(one, marks=pytest.mark.long) for one in NAMES[0]]
)
def test_every_network_takes_its_published_size(name: str) -> None:
    side = 299 if name == "inception_v3" else 224
    check_network("model", Torchvision(name=name), shape=(3, side, side), classes=7)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_stem_is_for_small_images(name: str, channels: int) -> None:
    side = SMALL[name]
    check_network("model", Torchvision(name=name, stem="small"), shape=(channels, side, side), classes=7)


def test_a_residual_network_with_a_small_stem_is_the_one_that_always_was() -> None:
    one = make(Torchvision(name="resnet18", stem="small"), (3, 32, 32)).state_dict()
    other = make(ResNet(kind="resnet18"), (3, 32, 32)).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_published_network_has_the_weights_that_torchvision_draws() -> None:
    ours = make(Torchvision(name="convnext_tiny"), (3, 64, 64), seed=4).get_submodule("network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        theirs = torchvision.models.convnext_tiny(num_classes=5)
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "convnext_tiny", "regnet_y_400mf", "mobilenet_v3_small"])
def test_a_network_is_rebuilt_from_its_weights(name: str) -> None:
    model, shape = Torchvision(name=name, stem="small"), (3, 32, 32)
    trained = make(model, shape).eval()
    again = rebuild_model(ArchitectureSpec(model=model, shape=shape, classes=5), trained.state_dict())
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(again(images), trained(images))
    with pytest.raises(RuntimeError, match="Missing key"):
        rebuild_model(ArchitectureSpec(model=model, shape=shape, classes=5), {})


def test_patches_of_a_quarter_of_the_side_are_as_many() -> None:
    small = make(Torchvision(name="vit_b_16", stem="small"), (1, 32, 32)).get_submodule("network")
    assert small.get_submodule("conv_proj").weight.shape == (768, 1, 4, 4)
    assert small.get_parameter("encoder.pos_embedding").shape == (1, 8 * 8 + 1, 768)


@pytest.mark.parametrize(
    ("tree", "shape", "line"),
    [
        (
            {"name": "resnet19"},
            (3, 32, 32),
            "model.name: 'resnet19' is not allowed: must be a classification network of torchvision (did you mean",
        ),
        (
            {"name": "vgg11", "stem": "small"},
            (3, 32, 32),
            "model: vgg11 is not allowed for images of 3x32x32: stem: small",
        ),
        ({"name": "vit_h_14", "stem": "small"}, (3, 56, 56), "model: vit_h_14 is not allowed for images of 3x56x56: "),
        (
            {"name": "vit_b_16"},
            (3, 40, 40),
            "model: vit_b_16 is not allowed for images of 3x40x40: Input shape indivis",
        ),
        ({"name": "vit_b_16"}, (3, 32, 48), "model: vit_b_16 is not allowed for images of 3x32x48: "),
        ({"name": "resnet18"}, (3, 32, 32), "model: resnet18 is not allowed for images of 3x32x32: Expected more than"),
        ({"name": "inception_v3"}, (3, 32, 32), "model: inception_v3 is not allowed for images of 3x32x32: "),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_one_line(tree: dict[str, Any], shape: tuple[int, int, int], line: str) -> None:
    with pytest.raises(ValueError, match="not allowed") as refused:
        check_network("model", decode(Model, {"kind": "torchvision", **tree}), shape=shape, classes=10)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


OWN = """
import torch
from torch import nn

class Positions(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.register_buffer("waves", torch.sin(torch.arange(width).float()), persistent=False)
    def forward(self, x):
        return x + self.waves

def mixer(shape, classes, width=8):
    c, h, w = shape
    first, last = nn.Linear(c * h * w, width), nn.Linear(width, classes)
    return nn.Sequential(nn.Flatten(), first, Positions(width), nn.GELU(), last)

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))

def head(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))

def number():
    return 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the folder of the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"own_networks_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    return name


def test_a_function_of_ones_own_builds_a_network(own: str) -> None:
    model: Model = decode(Model, {"kind": "python", "function": f"{own}:mixer", "arguments": {"width": 6}})
    assert isinstance(model, PythonNetwork)
    check_network("model", model, shape=(1, 8, 8), classes=5)
    first, again, other = (make(model, (1, 8, 8), seed=seed) for seed in (1, 1, 2))
    weights = [one.get_parameter("network.1.weight") for one in (first, again, other)]
    assert weights[0].shape == (6, 64)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    images, about = torch.rand(3, 1, 8, 8), ArchitectureSpec(model=model, shape=(1, 8, 8), classes=5)
    with pytest.raises(ValueError, match="add --trust"):
        rebuild_model(about, first.state_dict())
    found: Tensor = rebuild_model(about, first.state_dict(), trust=True)(images)
    assert torch.equal(found, first.eval()(images))
    assert not has_batch_norm(model, (1, 8, 8), 5)


def test_a_head_that_normalises_batches_is_shown_two_images(own: str) -> None:
    model = PythonNetwork(function=f"{own}:head")
    check_network("model", model, shape=(1, 8, 8), classes=5)
    assert has_batch_norm(model, (1, 8, 8), 5)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (
            "fixed",
            "model: {own}:fixed is not allowed: to one image of 1x8x8 it answers with (1, 1000), not with logits",
        ),
        ("number", "model: {own}:number is not allowed for images of 1x8x8: {own}:number returns a int, not an nn.Mod"),
        ("nobody", "model: {own}:nobody is not allowed for images of 1x8x8: {own}:nobody: cannot be imported"),
    ],
)
def test_what_a_function_may_not_build_is_one_line(own: str, function: str, line: str) -> None:
    with pytest.raises(ValueError, match="not allowed") as refused:
        check_network("model", PythonNetwork(function=f"{own}:{function}"), shape=(1, 8, 8), classes=10)
    assert str(refused.value).startswith(line.format(own=own))
