"""The networks: published sizes, normalisation inside, weights from the generator alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.config.spec import decode, encode
from mwm.models.build import Model, Normalize, build_model, channel_statistics, count_parameters, min_image_side
from mwm.models.networks import Cnn, ResNet, ResNet20

IMAGENET = {
    "resnet18": (11_689_512, 512),
    "resnet34": (21_797_672, 512),
    "resnet50": (25_557_032, 2048),
    "resnet101": (44_549_160, 2048),
    "resnet152": (60_192_808, 2048),
}
SMALL: list[Model] = [
    *(Cnn(), Cnn(width=4, depth=1), Cnn(width=3, depth=4), Cnn(init="pytorch")),
    *(ResNet20(), ResNet(kind="resnet18")),
]


def name(model: Model) -> str:
    return "-".join(str(value) for value in encode(model).values() if value not in (None, "he"))


def make(model: Model, *, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, seed: int = 0) -> nn.Module:
    c = shape[0]
    generator = torch.Generator().manual_seed(seed)
    return build_model(model, shape=shape, classes=classes, mean=[0.4] * c, std=[0.2] * c, generator=generator)


def images(n: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", IMAGENET)
@pytest.mark.parametrize(("channels", "classes"), [(3, 10), (1, 100)])
def test_residual_networks_have_the_published_sizes(kind: str, channels: int, classes: int) -> None:
    published, width = IMAGENET[kind]
    stem = 64 * channels * 3 * 3 - 64 * 3 * 7 * 7
    head = (width + 1) * (classes - 1000)
    with torch.device("meta"):
        network = make(decode(Model, kind), shape=(channels, 32, 32), classes=classes)
    assert count_parameters(network) == published + stem + head


def test_resnet20_has_the_published_size() -> None:
    stages = [(16, 16, 3), (16, 32, 3), (32, 64, 3)]
    convolutions = 9 * 3 * 16 + sum(9 * a * b + 9 * b * b * (2 * n - 1) for a, b, n in stages)
    norms = 2 * 16 + sum(2 * b * 2 * n for _, b, n in stages)
    network = make(ResNet20())
    assert count_parameters(network) == convolutions + norms + 65 * 10 == 269_722
    assert round(count_parameters(network) / 1e6, 2) == 0.27
    weighted = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == 20


def test_resnet20_is_the_net_of_the_paper_layer_by_layer() -> None:
    network = make(ResNet20()).eval()
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator)
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    x = F.relu(layers[1](layers[0]((images(2, (3, 32, 32)) - 0.4) / 0.2)))
    for block in range(9):
        first, norm1, second, norm2 = layers[2 + 4 * block : 6 + 4 * block]
        y = norm2(second(F.relu(norm1(first(x)))))
        if block in (3, 6):
            zeros = torch.zeros(2, x.shape[1] // 2, x.shape[2] // 2, x.shape[3] // 2)
            x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
        x = F.relu(x + y)
    expected = network.get_submodule("network.fc")(x.mean((2, 3)))
    torch.testing.assert_close(network(images(2, (3, 32, 32))), expected)


@pytest.mark.parametrize("model", SMALL, ids=name)
@pytest.mark.parametrize(("shape", "classes"), [((1, 16, 16), 10), ((3, 32, 32), 100)])
def test_one_image_gives_logits_and_trains(model: Model, shape: tuple[int, int, int], classes: int) -> None:
    network = make(model, shape=shape, classes=classes)
    logits = network.train()(images(1, shape))
    assert logits.shape == (1, classes)
    names, weights = zip(*network.named_parameters(), strict=True)
    slopes = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([classes - 1])), weights)
    for key, slope in zip(names, slopes, strict=True):
        assert slope.isfinite().all(), key
    assert slopes[names.index("network.fc.weight")].any()


@pytest.mark.parametrize("model", SMALL, ids=name)
def test_the_smallest_image_trains_and_a_smaller_one_is_refused(model: Model) -> None:
    side = min_image_side(model)
    assert make(model, shape=(1, side, side)).train()(images(1, (1, side, side))).isfinite().all()
    refusal = rf"{model.kind} is not allowed for images {side - 1} pixels wide: it needs {side}"
    with pytest.raises(ValueError, match=refusal):
        make(model, shape=(1, side, side - 1))


def test_the_default_cnn_takes_digits() -> None:
    assert make(Cnn(), shape=(1, 8, 8)).train()(images(1, (1, 8, 8))).shape == (1, 10)


@pytest.mark.parametrize("kind", ["resnet50", "resnet101", "resnet152"])
def test_the_big_networks_keep_the_resolution_of_small_images(kind: str) -> None:
    with torch.device("meta"):
        network = make(decode(Model, kind), classes=100)
        features: list[torch.Size] = []
        network.get_submodule("network.layer1").register_forward_hook(lambda *call: features.append(call[2].shape))
        assert network(torch.empty(2, 3, 32, 32)).shape == (2, 100)
    assert features == [(2, 256, 32, 32)]


@pytest.mark.parametrize("model", SMALL, ids=name)
def test_normalisation_comes_first_and_is_saved(model: Model) -> None:
    network = build_model(
        model, shape=(3, 32, 32), classes=10, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7], generator=torch.Generator()
    )
    first = next(network.children())
    assert isinstance(first, Normalize)
    assert list(network.state_dict())[:2] == ["normalise.mean", "normalise.std"]
    x = images(2, (3, 32, 32))
    expected = torch.stack([(x[:, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)])], 1)
    torch.testing.assert_close(first(x), expected)
    torch.testing.assert_close(network.eval()(x), network.get_submodule("network")(expected))
    other = make(model, seed=9)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.eval()(x), network(x))


@pytest.mark.parametrize("model", SMALL, ids=name)
def test_weights_follow_from_the_seed_alone(model: Model) -> None:
    torch.rand(7)
    before = torch.get_rng_state()
    first = make(model, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before), "the global random state moved"
    with torch.random.fork_rng(devices=[]):
        torch.rand(3)
        again = make(model, seed=1).state_dict()
    other = make(model, seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key, weight in first.items() if weight.ndim >= 2 and key.startswith("network")]
    assert drawn
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


def test_the_generator_is_left_where_it_was() -> None:
    generator = torch.Generator().manual_seed(4)
    before = generator.get_state()
    build_model(Cnn(), shape=(1, 8, 8), classes=10, mean=[0.5], std=[0.5], generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_cnn_doubles_its_width_and_halves_the_image() -> None:
    with torch.device("meta"):
        network = make(Cnn(width=5, depth=3))
        shapes: list[torch.Size] = []
        for module in network.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(lambda *call: shapes.append(call[2].shape[1:]))
        network(torch.empty(2, 3, 32, 32))
    assert shapes == [(5, 16, 16), (10, 8, 8), (20, 8, 8)]
    assert count_parameters(network) == 9 * (3 * 5 + 5 * 10 + 10 * 20) + 2 * (5 + 10 + 20) + 21 * 10


def test_a_word_names_a_model() -> None:
    assert decode(Model, "resnet18") == ResNet(kind="resnet18")
    assert decode(Model, "resnet20") == ResNet20()
    assert decode(Model, {"kind": "cnn", "width": 8}) == Cnn(width=8)
    with pytest.raises(ValueError, match="'vgg16' is unknown; allowed: 'resnet18'"):
        decode(Model, "vgg16", "victim.model")
    with pytest.raises(ValueError, match=r"model\.width"):
        decode(Model, {"kind": "resnet18", "width": 8}, "model")
    with pytest.raises(ValueError, match=r"model\.depth"):
        decode(Model, {"kind": "cnn", "depth": 0}, "model")


@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(0, 2**31))
def test_channel_statistics_are_those_of_all_pixels(n: int, channels: int, side: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, channels, side, side + 1), generator=generator, dtype=torch.uint8)
    means, deviations = channel_statistics(pixels)
    plain = pixels.double().transpose(0, 1).flatten(1) / 255
    assert means == pytest.approx(plain.mean(1).tolist(), rel=1e-12)
    assert deviations == pytest.approx(plain.std(1, correction=0).clamp(min=1 / 255).tolist(), rel=1e-9)


def test_a_constant_channel_can_be_divided() -> None:
    pixels = torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)
    pixels[:, 1] = 0
    assert channel_statistics(pixels) == ([1.0, 0.0, 1.0], [1 / 255] * 3)
    with pytest.raises(AssertionError, match="uint8"):
        channel_statistics(pixels.float())
