"""Weight noise: the formula, the statistics of what is drawn, and convolutions alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mwm.attacks import WeightNoise
from mwm.attacks.access import TargetFacts
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.datasets import Digits
from mwm.data.readers import load_dataset
from mwm.models.networks import Cnn, PythonNetwork
from mwm.trials.trial import Victim
from mwm.watermarks.schemes import TriggerSet
from tests.helpers.stealing import access_for, steal, victim


@pytest.mark.parametrize(("noise", "shift"), [(1.0, 1.5), (1.0, 2.5), (0.0, 1.5), (0.3, 0.0)])
def test_convolutions_move_by_the_formula(noise: float, shift: float) -> None:
    attack = WeightNoise(noise_scale=noise, shift=shift, seed=4)
    before, after, drawn = victim().state_dict(), steal(attack), make_generator(4, "noise")
    for name, value in before.items():
        if "conv" not in name:
            assert torch.equal(after[name], value), name
            continue
        w, random = value.double(), torch.randn(value.shape, generator=drawn).double()
        mean = sum(w[k] for k in range(len(w))) / len(w)
        spread = math.sqrt(((w - w.sum() / w.numel()) ** 2).sum() / w.numel())
        torch.testing.assert_close(after[name].double(), w - (shift * mean + noise * spread * random))


class Wide(nn.Module):
    """A convolution of many weights, all but centred filters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 2000, 5), nn.Linear(2000, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.fc(self.conv(images).mean((2, 3)))
        return found


def test_the_noise_has_the_spread_of_the_weights() -> None:
    torch.manual_seed(0)
    model = Wide()
    attack = WeightNoise(noise_scale=2.0, shift=0.0)
    moved = steal(attack, access_for(attack, model))["conv.weight"] - model.conv.weight.detach()
    standard = moved / (2 * model.conv.weight.detach().std())
    count = standard.numel()
    assert abs(standard.mean().item()) < 4 / math.sqrt(count)
    assert abs(standard.var().item() - 1) < 4 * math.sqrt(2 / count)
    assert abs((standard.abs() < 1).double().mean().item() - 0.6827) < 4 * math.sqrt(0.22 / count)


def test_a_shift_of_one_leaves_no_mean_filter() -> None:
    after = steal(WeightNoise(noise_scale=0.0, shift=1.0))
    means = [value.mean(0).abs().max().item() for name, value in after.items() if "conv" in name]
    assert max(means) < 1e-6
    assert len(means) == 2


def test_a_network_without_convolutions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flat_network.py").write_text(
        "from torch import nn\n"
        "def flat(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = PythonNetwork(function="flat_network:flat")
    owner = Victim(data=Digits(), model=model, scheme=TriggerSet(num_queries=5))
    facts = TargetFacts(path="attacks.1", victim=owner, datasets={Digits(): load_dataset(Digits())})
    with pytest.raises(ValueError, match=r"^attacks.1: weight_noise is not allowed: flat_network:flat has none$"):
        WeightNoise().validate(facts)
    WeightNoise().validate(replace(facts, victim=replace(owner, model=Cnn(depth=1))))


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"noise_scale": 0.0, "shift": 0.0}, "noise_scale: 0 is not allowed with shift 0: no weight moves"),
        ({"noise_scale": -1.0}, "noise_scale: -1.0 is not allowed: "),
        ({"share": 0.5}, "share: unknown key"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(WeightNoise, tree)
    assert str(told.value).startswith(fault)
