"""What may be said of every network: how its convolutions are drawn, and by which constants images are normalised."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torch import nn

from mwm.attacks import Extraction
from mwm.attacks.access import TargetFacts
from mwm.config.spec import decode
from mwm.models.build import ArchitectureSpec, Model, build_model, check_network, rebuild_model
from mwm.models.networks import Cnn, DrawnNetwork, Init, Normalization, ResNet, ResNet20
from mwm.storage.store import Store
from mwm.trials.trial import Trial
from tests.helpers.records import VICTIM, Loaded, done, theft

ENOUGH = 5000
"""Weights of a layer whose spread can be told to a few percent."""

KINDS: list[Any] = [Cnn(width=64, depth=2), ResNet20(), ResNet(kind="resnet18")]
GREY = Normalization(mean=(0.25,), std=(0.5,))
COLOUR = Normalization(mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))


def make(model: Model, shape: tuple[int, int, int] = (3, 32, 32), seed: int = 0) -> nn.Module:
    blank = [1.0] * shape[0]
    drawn = torch.Generator().manual_seed(seed)
    return build_model(model, shape=shape, classes=10, mean=blank, std=blank, generator=drawn)


def drawn_by_pytorch(model: DrawnNetwork) -> Any:
    return replace(model, init="pytorch")


def convolutions(network: nn.Module) -> Iterator[nn.Conv2d]:
    """Those with weights enough for statistics."""
    found = [one for one in network.modules() if isinstance(one, nn.Conv2d) and one.weight.numel() >= ENOUGH]
    assert found
    yield from found


def spread(layer: nn.Conv2d) -> float:
    return layer.weight.double().std().item()


def fans(layer: nn.Conv2d) -> tuple[int, int]:
    """Inputs of a unit, and outputs of an input, of a convolution."""
    area = layer.kernel_size[0] * layer.kernel_size[1]
    return layer.in_channels * area, layer.out_channels * area


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.kind)
def test_he_weights_are_normal_with_the_spread_of_the_fan_out(model: Any) -> None:
    for layer in convolutions(make(model)):
        expected = (2 / fans(layer)[1]) ** 0.5
        assert spread(layer) == pytest.approx(expected, rel=0.05)
        assert kstest(layer.weight.detach().flatten() / expected, "norm").pvalue > 1e-6


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.kind)
def test_pytorch_weights_are_uniform_within_the_root_of_the_fan_in(model: Any) -> None:
    for layer in convolutions(make(drawn_by_pytorch(model))):
        bound = fans(layer)[0] ** -0.5
        assert spread(layer) == pytest.approx(bound / 3**0.5, rel=0.05)
        assert layer.weight.abs().max().item() <= bound
        assert kstest(layer.weight.detach().flatten() / bound, "uniform", (-1, 2)).pvalue > 1e-6


def test_pytorch_weights_are_drawn_as_by_a_fresh_layer_of_pytorch() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for layer in convolutions(make(ResNet20(init="pytorch"))):
            fresh = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size[0], bias=False)
            assert spread(layer) == pytest.approx(spread(fresh), rel=0.05)
            assert ks_2samp(layer.weight.detach().flatten(), fresh.weight.detach().flatten()).pvalue > 1e-6


def test_he_weights_are_wider_by_the_root_of_six_where_a_layer_keeps_its_width() -> None:
    kinds: tuple[Init, Init] = ("he", "pytorch")
    wide, narrow = (make(ResNet(kind="resnet18", init=init)).get_submodule("network.layer2.1.conv1") for init in kinds)
    assert isinstance(wide, nn.Conv2d)
    assert isinstance(narrow, nn.Conv2d)
    assert spread(wide) / spread(narrow) == pytest.approx(6**0.5, rel=0.02)


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.kind)
def test_nothing_but_convolutions_is_drawn_otherwise(model: Any) -> None:
    one, other = make(model).state_dict(), make(drawn_by_pytorch(model)).state_dict()
    assert one.keys() == other.keys()
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed == {name for name, weight in one.items() if weight.ndim == 4}


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.kind)
def test_constants_of_a_record_stand_for_statistics(model: Any) -> None:
    plain, fixed = make(model), make(replace(model, normalize=COLOUR))
    for name, values in (("mean", COLOUR.mean), ("std", COLOUR.std)):
        assert fixed.state_dict()[f"normalise.{name}"].flatten().tolist() == pytest.approx(values, abs=1e-7)
        assert plain.state_dict()[f"normalise.{name}"].flatten().tolist() == [1.0] * 3
    weights, others = (one.get_submodule("network").state_dict() for one in (plain, fixed))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_network_with_constants_is_rebuilt() -> None:
    model = Cnn(width=2, depth=1, init="pytorch", normalize=COLOUR)
    trained = make(model, (3, 8, 8)).eval()
    again = rebuild_model(ArchitectureSpec(model=model, shape=(3, 8, 8), classes=10), trained.state_dict())
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(images), trained(images))
    with pytest.raises(ValueError, match=r"normalize: constants for 3 channels are not allowed: images have 1"):
        rebuild_model(ArchitectureSpec(model=model, shape=(1, 8, 8), classes=10), trained.state_dict())


def test_rebuilding_a_network_does_not_load_the_compiler() -> None:
    """That takes a second, more than all the rest of a verdict."""
    source = (
        "import sys\nfrom mwm.models.build import ArchitectureSpec, rebuild_model\n"
        "from mwm.models.networks import Cnn\n"
        "architecture = ArchitectureSpec(model=Cnn(), shape=(1, 8, 8), classes=10)\n"
        "try:\n    rebuild_model(architecture, {})\nexcept RuntimeError:\n    pass\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_constants_for_other_channels_are_refused_before_anything_is_built() -> None:
    check_network("victim.model", Cnn(normalize=COLOUR), shape=(3, 32, 32), classes=4)
    words = r"^victim\.model\.normalize: constants for 3 channels are not allowed: images have 1$"
    with pytest.raises(ValueError, match=words):
        check_network("victim.model", Cnn(normalize=COLOUR), shape=(1, 32, 32), classes=4)


def test_those_of_a_student_too(sets: Loaded) -> None:
    attack = Extraction(student=Cnn(width=2, depth=1, normalize=COLOUR))
    facts = TargetFacts(path="attacks.0", victim=VICTIM, datasets={VICTIM.data: next(iter(sets.data.values()))})
    with pytest.raises(ValueError, match=r"^attacks\.0\.student\.normalize: constants for 3 channels"):
        attack.validate(facts)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"mean": [0.5], "std": [0]}, r"^model\.normalize\.std\.0: 0 is not allowed: must be greater than 0$"),
        ({"mean": [0.5], "std": [-0.1]}, r"^model\.normalize\.std\.0: -0.1 is not allowed: must be greater than 0$"),
        (
            {"mean": [0.5, 0.5], "std": [0.1]},
            r"^model\.normalize\.std: a list of 1 is not allowed: must have 2, as mean",
        ),
        ({"mean": [], "std": []}, r"^model\.normalize\.mean: \[\] is not allowed"),
        ({"mean": [float("nan")], "std": [0.1]}, r"^model\.normalize\.mean\.0: nan is not allowed"),
        ({"mean": [0.5]}, r"^model\.normalize\.std: is missing$"),
        ({"mean": 0.5, "std": [0.1]}, r"^model\.normalize\.mean: 0.5 is not allowed: must be a list$"),
    ],
)
def test_wrong_constants_are_refused_in_a_line(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Model, {"kind": "cnn", "normalize": tree}, "model")


def test_a_wrong_way_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model\.init: 'xavier' is not allowed: must be 'he' or 'pytorch'$"):
        decode(Model, {"kind": "resnet18", "init": "xavier"}, "model")


def test_victims_and_students_have_each_their_own_constants(sets: Loaded, tmp_path: Path) -> None:
    store, own = Store(tmp_path), Normalization(mean=(0.125,), std=(0.75,))
    victim = replace(VICTIM, model=Cnn(width=2, depth=1, normalize=GREY))
    student = Extraction(student=Cnn(width=2, depth=1, normalize=own))
    trials = [Trial(victim=victim), theft(Extraction(), victim), theft(student, victim)]
    found = []
    for trial in trials:
        weights = store.weights(done(trial, sets, store).digest)
        found.append((weights["normalise.mean"].item(), weights["normalise.std"].item()))
    assert found == [(0.25, 0.5), (0.25, 0.5), (0.125, 0.75)]
