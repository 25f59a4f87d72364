"""Trials that start from the weights of a trained network: where these are read from, and what they are named by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mwm.attacks import AttackSequence, BatchNormReestimation, Extraction
from mwm.models.build import build_model
from mwm.models.networks import Cnn, Normalization
from mwm.models.start import Start
from mwm.storage.store import Store
from mwm.training.recipe import EMBEDDING, Recipe
from mwm.trials.outcome import Outcome
from mwm.trials.run import run
from mwm.trials.starts import read_start
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key, trial_digest, victim_digest
from mwm.trials.validation import check_start, fresh_of_attack, fresh_of_victim, validate_attack, validate_victim
from tests.helpers.records import CPU, VICTIM, Loaded

SAID = replace(VICTIM, model=Cnn(width=2, depth=1, normalize=Normalization(mean=(0.3,), std=(0.4,))))


def network(victim: Victim, classes: int, seed: int = 3) -> nn.Module:
    drawn = torch.Generator().manual_seed(seed)
    return build_model(victim.model, shape=(1, 8, 8), classes=classes, mean=[0.5], std=[0.3], generator=drawn)


@pytest.fixture
def weights(sets: Loaded) -> dict[str, Tensor]:
    return network(SAID, sets[data_key(SAID.data)].classes).get_submodule("network").state_dict()


def read(place: Any, store: Store | None = None) -> Start:
    return read_start(str(place), "victim.start", store=store, tracking_uri=None, trust=False)


def test_weights_are_the_same_in_every_form(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "weights.safetensors")
    torch.save(weights, tmp_path / "weights.pt")
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "weights.ckpt")
    torch.save({"model": {"state_dict": weights}}, tmp_path / "weights.pth")
    store = Store(tmp_path / "store")
    store.save_weights("0123456789abcdef", weights)
    store.commit("0123456789abcdef", {})
    found = [read(path) for path in sorted(tmp_path.glob("weights.*"))] + [read("0123456789abcdef", store)]
    assert len(found) == 5
    assert len({one.digest for one in found}) == 1
    assert all(torch.equal(found[0].weights[name], value) for name, value in weights.items())
    torch.save({**weights, "fc.bias": weights["fc.bias"] + 1}, tmp_path / "other.pt")
    assert read(tmp_path / "other.pt").digest != found[0].digest


def test_what_cannot_be_read_is_one_line(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(network(SAID, 10), tmp_path / "whole.pt")
    torch.save({"epoch": 3}, tmp_path / "number.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    store = Store(tmp_path / "store")
    for place, line in (
        (tmp_path / "whole.pt", r"cannot be read \(Weights only load failed"),
        (tmp_path / "number.pt", r"is not allowed: 'epoch' in it is a int; allowed: weights by their names"),
        (tmp_path / "list.pt", r"is not allowed: '' in it is a list"),
        (tmp_path / "torn.safetensors", r"cannot be read \("),
        (tmp_path / "none.pt", r"cannot be read \(.*No such file"),
        (tmp_path / "weights.onnx", r"is not allowed: must be a \.safetensors"),
        ("0123456789abcdef", r"is no finished trial of this store"),
        (
            "models:/mine/1",
            r"a model of MLflow is Python code and pickles.* add --trust",
        ),
    ):
        with pytest.raises(ValueError, match=r"^victim\.start: .*" + line) as refused:
            read(place, store)
        assert "\n" not in str(refused.value)


def test_trials_are_named_by_the_weights_and_not_by_their_place(sets: Loaded, weights: dict[str, Tensor]) -> None:
    changed = {**weights, "fc.bias": weights["fc.bias"] + 1}
    one, other = Start(weights, "1" * 16), Start(changed, "2" * 16)
    held = replace_inputs(sets, {"a.pt": one, "b.pt": one, "c.pt": other})
    names = [victim_digest(replace(SAID, start=place), held) for place in ("a.pt", "b.pt", "c.pt")]
    assert names[0] == names[1]
    assert len({*names, victim_digest(SAID, held)}) == 3
    thefts = [
        Trial(victim=SAID, attack=Extraction(start=place).resolve(SAID)) for place in ("a.pt", "b.pt", "c.pt", None)
    ]
    digests = [trial_digest(theft, held) for theft in thefts]
    assert digests[0] == digests[1]
    assert len({*digests}) == 3


def replace_inputs(sets: Loaded, starts: dict[str, Start]) -> TrialInputs:
    return replace(sets, starts=starts)


def last(rows: Iterator[Any]) -> Outcome:
    *_, outcome = rows
    assert isinstance(outcome, Outcome)
    return outcome


def test_a_victim_and_a_student_start_from_weights(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    clean = replace(SAID, recipe=Recipe(epochs=6, batch_size=32, lr=0.1, momentum=0.9))
    trained = last(run(Trial(victim=clean.unwatermarked()), sets, store, CPU))
    held = replace_inputs(sets, {trained.digest: Start(store.weights(trained.digest), trained.digest)})
    still = replace(clean, recipe=Recipe(epochs=1, batch_size=32, lr=1e-9))
    marked = last(run(Trial(victim=replace(still, start=trained.digest)), held, store, CPU))
    assert marked.start_acc == trained.clean_acc == marked.clean_acc
    assert last(run(Trial(victim=still), held, store, CPU)).start_acc is None
    attack = Extraction(recipe=still.recipe, start=trained.digest).resolve(still)
    theft = last(run(Trial(victim=still, attack=attack), held, store, CPU))
    assert theft.clean_acc == trained.clean_acc


def test_without_a_recipe_a_watermark_is_embedded_by_a_short_one() -> None:
    blank = replace(SAID, recipe=Recipe())
    assert replace(blank, start="a.pt").recipe == EMBEDDING
    assert replace(blank, start="a.pt", recipe=Recipe(epochs=7)).recipe == Recipe(epochs=7)
    assert blank.recipe == Recipe()
    assert EMBEDDING.epochs <= 0.3 * Recipe().epochs


def test_weights_are_held_against_the_network_before_anything_runs(sets: Loaded, weights: dict[str, Tensor]) -> None:
    held = replace_inputs(sets, {"a.pt": Start(weights, "1" * 16)})
    validate_victim(replace(SAID, start="a.pt"), held)
    unsaid, wide = replace(VICTIM, start="a.pt"), Cnn(width=3, depth=1, normalize=SAID.model.normalize)
    with pytest.raises(ValueError, match=r"^victim\.model\.normalize: must be written where a network starts"):
        validate_victim(unsaid, held)
    with pytest.raises(ValueError, match=r"^victim\.start: the weights of conv0\.weight are of shape"):
        validate_victim(replace(SAID, start="a.pt", model=wide), held)
    validate_attack("attacks.0", Extraction(start="a.pt"), victim=SAID, sets=held)
    with pytest.raises(ValueError, match=r"^attacks\.0\.student\.normalize: must be written"):
        validate_attack("attacks.0", Extraction(start="a.pt"), victim=VICTIM, sets=held)
    dataset = sets[data_key(SAID.data)]
    named = fresh_of_attack("attacks.0", Extraction(start="a.pt"), victim=replace(SAID, start="a.pt"), sets=held)
    assert (named, fresh_of_victim(replace(SAID, start="a.pt"), held)) == (
        {"attacks.0.start": []},
        {"victim.start": []},
    )
    assert (fresh_of_victim(SAID, held), fresh_of_attack("a", Extraction(), victim=SAID, sets=held)) == ({}, {})
    assert check_start("v", "v.model", SAID.model, start=held.starts["a.pt"], dataset=dataset) == []


def test_what_a_student_may_not_start_from() -> None:
    with pytest.raises(ValueError, match="same_start: true is not allowed: the student starts from the weights"):
        Extraction(same_start=True, start="a.pt")
    with pytest.raises(
        ValueError, match=r"^attacks\.0\.same_start: true is not allowed: the victim starts from weights"
    ):
        validate_attack(
            "attacks.0", Extraction(same_start=True), victim=replace(SAID, start="a.pt"), sets=TrialInputs({})
        )


def test_a_step_that_starts_from_weights_is_held_against_the_network_of_its_own(
    sets: Loaded, weights: dict[str, Tensor]
) -> None:
    steps = (BatchNormReestimation(), Extraction(start="a.pt"))
    held = replace_inputs(sets, {"a.pt": Start(weights, "1" * 16)})
    assert fresh_of_attack("attacks.0", AttackSequence(steps=steps), victim=SAID, sets=held) == {
        "attacks.0.steps.1.start": []
    }
    with pytest.raises(ValueError, match=r"^attacks\.0\.steps\.1\.student\.normalize: must be written"):
        fresh_of_attack("attacks.0", AttackSequence(steps=steps), victim=VICTIM, sets=held)
