"""Models of a real MLflow as weights to start from."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mwm.attacks import Extraction
from mwm.data.datasets import Digits
from mwm.models.build import build_model
from mwm.storage.store import Store
from mwm.training.recipe import Recipe
from mwm.trials.run import run
from mwm.trials.starts import read_start
from mwm.trials.trial import Trial, TrialInputs, data_key
from mwm.trials.validation import Places, read_inputs, validate_victim
from tests.helpers.records import CPU, Loaded
from tests.helpers.registered import registered
from tests.unit.trials.test_starts import SAID, last


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, and no store of MLflow but the one that is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.slow
def test_a_victim_and_a_student_start_from_a_model_of_mlflow(uri: str, sets: Loaded, tmp_path: Path) -> None:
    classes = sets[data_key(SAID.data)].classes
    drawn = torch.Generator().manual_seed(3)
    network = build_model(SAID.model, shape=(1, 6, 6), classes=classes, mean=[0.5], std=[0.3], generator=drawn)
    inner = network.get_submodule("network").eval()
    addresses = (registered(uri, inner), "models:/mine/1", "models:/mine/latest")
    found = [read_start(one, "victim.start", store=None, tracking_uri=uri, trust=True) for one in addresses]
    assert len({one.digest for one in found}) == 1
    weights = inner.state_dict()
    assert found[0].weights.keys() == weights.keys()
    assert all(torch.equal(found[0].weights[name], value) for name, value in weights.items())
    assert "MLFLOW_TRACKING_URI" not in os.environ

    still = replace(SAID, recipe=Recipe(epochs=1, batch_size=32, lr=1e-9), start=addresses[1])
    inputs = TrialInputs(sets.data, starts=dict.fromkeys(addresses, found[0]))
    validate_victim(still, inputs)
    marked = last(run(Trial(victim=still), inputs, Store(tmp_path / "store"), CPU))
    attack = Extraction(start=addresses[0]).resolve(still)
    theft = last(run(Trial(victim=still, attack=attack), inputs, Store(tmp_path / "store"), CPU))
    assert marked.start_acc == marked.clean_acc == theft.clean_acc


@pytest.mark.slow
def test_what_mlflow_does_not_have_or_nobody_trusts_is_one_line(uri: str) -> None:
    def refused(address: str, *, trust: bool) -> str:
        with pytest.raises(ValueError, match=r"^victim\.start: ") as caught:
            read_inputs(
                [replace(SAID, data=Digits(), start=address)], [], Places(download=False, trust=trust, tracking_uri=uri)
            )
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refused("models:/mine/1", trust=False).endswith("add --trust, or trust=True in Python")
    assert "cannot be loaded as a model of PyTorch" in refused("models:/nobodys/1", trust=True)
    assert "cannot be loaded as a model of PyTorch" in refused(f"runs:/{'0' * 32}/net", trust=True)
