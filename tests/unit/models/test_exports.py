"""Networks in the forms of others: the same answers to any number of images, and nothing of this machine inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from mwm.models.build import Model, build_model
from mwm.models.exports import write_onnx, write_torchscript
from mwm.models.files import load_model
from mwm.models.networks import Cnn, ResNet20, Torchvision

SHAPE, CLASSES = (3, 32, 32), 5
FAMILIES: dict[str, Model] = {
    "cnn": Cnn(width=4, depth=2),
    "resnet20": ResNet20(),
    "mobilenet": Torchvision(name="mobilenet_v3_small"),
}


class Transformer(nn.Module):
    """A small vision transformer: patches of 8 pixels, one layer of attention, the mean of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.places = nn.Parameter(torch.randn(1, 16, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return self.head(self.layers(tokens).mean(1))  # type: ignore[no-any-return]


def made(name: str) -> nn.Module:
    """A network whose weights are not those of its beginning, so that its logits tell something."""
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    network: nn.Module = Transformer()
    if name != "transformer":
        how = {"shape": SHAPE, "classes": CLASSES, "mean": [0.5] * 3, "std": [0.2] * 3, "generator": chance}
        network = build_model(FAMILIES[name], **how)  # type: ignore[arg-type]
    for weight in network.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=chance)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # its statistics are then the mean of those of all batches
    with torch.no_grad():
        network.train()(torch.rand(32, *SHAPE, generator=chance))
    return network.eval().requires_grad_(False)


def asked_onnx(file: Path) -> Callable[[Tensor], Tensor]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@pytest.mark.parametrize("name", [*FAMILIES, "transformer"])
def test_every_form_answers_as_the_network(name: str, tmp_path: Path) -> None:
    network, images = made(name), torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1))
    want = network(images)
    assert want.std(0).max() > 1e-4, "a network that says the same of all images tells nothing"
    write_torchscript(network, tmp_path / "network.ts", SHAPE)
    write_onnx(network, tmp_path / "network.onnx", SHAPE)
    script, onnx = load_model(tmp_path / "network.ts", trust=True), asked_onnx(tmp_path / "network.onnx")
    for count in (1, 2, 5):
        for answer in (script, onnx):
            assert torch.allclose(answer(images[:count]), want[:count], rtol=1e-4, atol=1e-5)
    assert torch.equal(network(images), want), "the network itself was changed"
    assert str(Path(__file__).parents[3]).encode() not in (tmp_path / "network.onnx").read_bytes()


class Fixed(nn.Module):
    """A network of an operator that ONNX does not know."""

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = torch.linalg.eigvalsh(images[:, 0])
        return found


def test_what_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^this network cannot be written as ONNX \(") as told:
        write_onnx(Fixed(), tmp_path / "network.onnx", SHAPE)
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"^this network cannot be written as TorchScript \("):
        write_torchscript(nn.ModuleList(), tmp_path / "network.ts", SHAPE)


def test_what_is_written_does_not_depend_on_chance(tmp_path: Path) -> None:
    network = made("cnn")
    state = torch.default_generator.get_state()
    for name in ("one", "two"):
        write_onnx(network, tmp_path / f"{name}.onnx", SHAPE)
    assert np.array_equal(state, torch.default_generator.get_state())
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
