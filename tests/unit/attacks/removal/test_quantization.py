"""Quantization: weights on their grid, and int8 as PyTorch's own kernels compute it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

from mwm.attacks import AttackSequence, FineTuning, Quantization
from mwm.attacks.removal.quantization import bin_middles
from mwm.config.randomness import derive_seed
from mwm.config.spec import decode
from mwm.models.build import ArchitectureSpec, rebuild_model
from mwm.models.exports import write_onnx
from mwm.models.int8 import input_range, weight_scales
from mwm.models.networks import Cnn
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import MultiStep, Recipe
from tests.helpers.stealing import CLASSES, SHAPE, access_for, same, some, steal, victim

INT8 = Quantization(bits=8, method="int8")
QUANTIZED = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=1, max_size=60), st.integers(2, 8))
def test_each_weight_goes_to_the_middle_of_its_bin(values: list[float], bits: int) -> None:
    weight = torch.tensor(values, dtype=torch.float64)
    points = torch.linspace(weight.min(), weight.max(), 2**bits, dtype=torch.float64)
    if weight.min() == weight.max():
        assert torch.equal(bin_middles(weight, bits), weight)
        return
    middles, width = (points[1:] + points[:-1]) / 2, float(points[1] - points[0])
    found = bin_middles(weight, bits)
    assert float((found[:, None] - middles).abs().min(1).values.max()) <= 1e-9 * width + 1e-12
    assert float((found - weight).abs().max()) <= width / 2 * (1 + 1e-6) + 1e-12


def test_points_belong_to_the_bin_above_them_and_the_last_one_to_the_last() -> None:
    weight = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    assert bin_middles(weight, 2).tolist() == [0.5, 0.5, 1.5, 1.5, 2.5, 2.5]


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_the_grid_is_that_of_each_tensor(bits: int) -> None:
    before, after = victim().state_dict(), steal(Quantization(bits=bits))
    for name, value in before.items():
        if value.ndim < 2 or "normalise" in name:
            assert torch.equal(after[name], value), name
            continue
        low, high = value.double().min(), value.double().max()
        steps = (after[name].double() - low) / (high - low) * (2**bits - 1) - 0.5
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert len(set(after[name].flatten().tolist())) <= 2**bits - 1
        assert not torch.equal(after[name], value)


def given_to(model: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer is given before it rounds that, and what it gives."""
    told: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(lambda _, x: told.update(given=x[0]), prepend=True),
        layer.register_forward_hook(lambda _, __, out: told.update(out=out)),
    ]
    predict_logits(model, images)
    for handle in handles:
        handle.remove()
    return told["given"], told["out"]


@QUANTIZED
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 30), st.floats(-5, 5))
def test_scales_are_those_of_pytorch(seed: int, spread: float, middle: float) -> None:
    drawn = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(5, 3, 2, 2, generator=drawn) * spread, torch.randn(50, generator=drawn) * spread + middle
    channels = PerChannelMinMaxObserver(ch_axis=0, dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    whole = MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
    channels(weight), whole(x)
    scale, zero = whole.calculate_qparams()
    ours = input_range(*x.aminmax())
    assert torch.equal(weight_scales(weight), channels.calculate_qparams()[0])
    assert (ours[0].item(), ours[1].item()) == (scale.item(), zero.item())


@QUANTIZED
def test_every_layer_computes_what_the_int8_kernel_does() -> None:
    """The kernels give whole numbers of 8 bits, too: theirs are ours to half a step of those."""
    access = access_for(INT8)
    *_, last = INT8.run(access)
    model: Any = last.training.model
    seen = 0
    for name, layer in model.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        weight = dict(victim().named_parameters())[f"{name}.weight"].detach()
        scales = weight_scales(weight)
        whole = torch.quantize_per_channel(weight, scales, torch.zeros(len(weight), dtype=torch.int32), 0, torch.qint8)
        assert torch.equal(layer.weight, whole.dequantize())
        x, out = given_to(model, layer, some().images)
        scale, zero = layer.input_scale, layer.input_zero_point
        asked = torch.quantize_per_tensor(x, float(scale), int(zero), torch.quint8)  # type: ignore[arg-type]
        step, middle = input_range(*out.aminmax())
        bias = None if layer.bias is None else layer.bias.detach()
        if isinstance(layer, nn.Conv2d):
            packed = torch.ops.quantized.conv2d_prepack(whole, bias, [1, 1], [1, 1], [1, 1], 1)
            found = torch.ops.quantized.conv2d(asked, packed, float(step), int(middle))
        else:
            packed = torch.ops.quantized.linear_prepack(whole, bias)
            found = torch.ops.quantized.linear(asked, packed, float(step), int(middle))
        assert float((found.dequantize() - out).abs().max()) <= float(step) * 0.501
        seen += 1
    assert seen == 3


def test_ranges_are_those_that_the_attackers_images_gave() -> None:
    plain: Any = victim().eval()
    ends: dict[str, tuple[float, float]] = {}
    for name in ("conv0", "conv1", "fc"):
        x, _ = given_to(plain, plain.network.get_submodule(name), some().images)
        ends[name] = min(x.min().item(), 0), max(x.max().item(), 0)
    after = steal(INT8)
    for name, (low, high) in ends.items():
        scale = after[f"network.{name}.input_scale"].item()
        assert scale == pytest.approx((high - low) / 255, rel=1e-6)
        assert after[f"network.{name}.input_zero_point"].item() == round(-low / scale)


def rebuilt(weights: dict[str, Tensor]) -> nn.Module:
    """The network of an attack as whoever reads its file has it."""
    return rebuild_model(ArchitectureSpec(model=Cnn(width=4, depth=2), shape=SHAPE, classes=CLASSES), weights)


def test_a_file_of_its_weights_gives_the_same_network() -> None:
    *_, last = INT8.run(access_for(INT8))
    model = last.training.model
    answers = predict_logits(model, some().images)
    assert torch.equal(predict_logits(rebuilt(model.state_dict()), some().images), answers)
    names = {name for name in model.state_dict() if "input_" in name}
    assert len(names) == 6
    weights_alone = {name: value for name, value in model.state_dict().items() if name not in names}
    assert not torch.equal(predict_logits(rebuilt(weights_alone), some().images), answers), "inputs count for nothing"


def test_a_file_of_onnx_gives_the_same_answers(tmp_path: Path) -> None:
    import onnxruntime

    *_, last = INT8.run(access_for(INT8))
    network = rebuilt(last.training.model.state_dict())
    write_onnx(network, tmp_path / "int8.onnx", SHAPE)
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"))
    images = some().images.float() / 255
    (found,) = session.run(None, {"images": images.numpy()})
    expected = network(images).numpy()
    assert abs(found - expected).max() <= 0.05 * abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("first", [Quantization(bits=4), INT8], ids=["grid", "int8"])
def test_fine_tuning_goes_on_from_what_was_rounded(first: Quantization) -> None:
    """Weights leave their grid; what layers are given stays on its own, and gradients pass it."""
    tuned = FineTuning(recipe=Recipe(epochs=2, batch_size=10, lr=0.05, momentum=0.9, schedule=MultiStep()))
    attack = AttackSequence(steps=(first, tuned))
    *_, rounded = first.run(access_for(first))
    access = access_for(tuned, rounded.training.model)
    object.__setattr__(access, "seed", derive_seed(0, "step", 1, 0))
    after = steal(attack)
    assert same(after, steal(tuned, access))
    for name, value in rounded.training.model.state_dict().items():
        moved = not torch.equal(after[name], value)
        assert moved == ("normalise" not in name and "input_" not in name), name
    if first is INT8:
        answers = predict_logits(rebuilt(after), some().images)
        *_, last = attack.run(access_for(attack))
        assert torch.equal(predict_logits(last.training.model, some().images), answers)


def test_twice_is_once() -> None:
    attack = AttackSequence(steps=(INT8, INT8))
    *_, last = attack.run(access_for(attack))
    layers = [layer for layer in last.training.model.modules() if hasattr(layer, "input_scale")]
    assert [len(layer._forward_pre_hooks) for layer in layers] == [1, 1, 1]


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"bits": 1}, "bits: 1 is not allowed: "),
        ({"bits": 9}, "bits: 9 is not allowed: "),
        ({"bits": 4.0}, "bits: 4.0 is not allowed: "),
        ({"method": "int8"}, "method: 'int8' is not allowed with bits 5: allowed with bits: 8"),
        ({"method": "int4"}, "method: 'int4' is not allowed: must be 'grid' or 'int8'"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(Quantization, tree)
    assert str(told.value).startswith(fault)
