"""A copy that evades is stored, rebuilt, measured and verified as it is deployed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open

import mwm
from mwm.attacks import (
    AnswerRestriction,
    Attack,
    AttackSequence,
    BatchNormReestimation,
    Extraction,
    InputTransforms,
    MajorityVote,
    Quantization,
    QueryDetection,
)
from mwm.data.images import to_float
from mwm.data.splits import split
from mwm.models.deployed import Deployed
from mwm.models.files import load_model
from mwm.models.inputs import GaussianBlur, InputNoise, Shift
from mwm.storage.store import WEIGHTS, Store
from mwm.training.evaluation import predict_logits
from mwm.trials.api import AttackResult, TrainedVictim
from mwm.trials.key_export import export_files, write_keys
from mwm.trials.outcome import Outcome
from mwm.trials.trial import TrialInputs, data_key
from tests.helpers.asking import Say, heard, one_line
from tests.helpers.records import CPU, DATA, MARKED, RECIPE, Loaded, done, theft, timeless

NOISE = InputTransforms(transforms=(GaussianBlur(), Shift(), InputNoise(deviation=0.1)))
DETECT = QueryDetection(neighbors=3, false_rejects=0.2)
RELABEL = replace(DETECT, space="pixels", action="relabel")
BOTH = AttackSequence(steps=(BatchNormReestimation(passes=1), DETECT, NOISE, AnswerRestriction()))
INT8 = AttackSequence(steps=(Quantization(bits=8, method="int8"), RELABEL, MajorityVote(copies=2)))
EVADING: list[Attack] = [NOISE, MajorityVote(copies=3), DETECT, RELABEL, AnswerRestriction(), BOTH, INT8]


class Evaded(NamedTuple):
    """A marked victim's trial in a store, and attacks on it."""

    store: Store
    sets: Loaded
    key: Path
    place: str

    def of(self, attack: Any) -> Any:
        return done(theft(attack, MARKED), self.sets, self.store)

    def folder(self, digest: str) -> Path:
        return self.store.folder(digest)


@pytest.fixture(scope="module")
def evaded(sets: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Evaded:
    place = tmp_path_factory.mktemp("storage")
    store = Store(place / "store")
    outcome = done(theft(NOISE, MARKED), sets, store)
    victim = store.outcome(outcome.victim_digest)
    assert victim is not None
    assert victim["marked"]
    key = place / "key"
    assert list(write_keys(export_files(store, Outcome(**victim)), key, name="key"))
    return Evaded(store, sets, key, str(place))


@pytest.mark.parametrize("attack", EVADING, ids=lambda one: one.kind)
def test_a_stored_copy_is_verified_as_it_was_measured(attack: Any, evaded: Evaded) -> None:
    outcome = evaded.of(attack)
    verdict = mwm.verify(evaded.key, evaded.folder(outcome.digest))
    (suspect,) = verdict.suspects
    assert suspect.p_value == pytest.approx(outcome.p_value, rel=1e-9)
    alone = done(theft(BatchNormReestimation(passes=1), MARKED), evaded.sets, evaded.store)
    assert outcome.p_value != alone.p_value, "it is measured as if nothing stood around it"


@pytest.mark.parametrize("attack", EVADING, ids=lambda one: one.kind)
def test_a_stored_copy_is_loaded_as_it_is_deployed(attack: Any, evaded: Evaded) -> None:
    outcome = evaded.of(attack)
    found, test = load_model(evaded.folder(outcome.digest)), views(evaded.sets).test
    assert isinstance(found, Deployed)
    answers = predict_logits(found, test.images)
    silent = (answers == answers[:, :1]).all(1)
    right = (answers.argmax(1) == test.labels) & ~silent
    assert outcome.clean_acc == pytest.approx(right.double().mean().item())
    if attack in (DETECT, BOTH):
        assert silent.any()
        assert outcome.false_rejects == pytest.approx(silent.double().mean().item())
    if attack in (RELABEL, INT8):
        assert outcome.false_rejects == found.rejects(to_float(test.images)).double().mean().item() > 0
    if attack not in (DETECT, RELABEL, BOTH, INT8):
        assert outcome.false_rejects is None


def views(sets: TrialInputs) -> Any:
    return split(sets[data_key(DATA)], MARKED.split, CPU)


def test_a_file_says_of_networks_that_stand_alone_what_it_always_said(evaded: Evaded) -> None:
    theft_after = AttackSequence(steps=(MajorityVote(copies=2), Extraction(recipe=RECIPE)))
    outcome = evaded.of(theft_after)
    for digest in (outcome.digest, outcome.victim_digest):
        with safe_open(evaded.folder(digest) / WEIGHTS, "pt") as content:
            said = json.loads(content.metadata()["network"])
        assert said.keys() == {"model", "shape", "classes"}
        assert not isinstance(load_model(evaded.folder(digest)), Deployed)
    assert outcome.false_rejects is None


def test_images_are_counted_where_any_are_used(evaded: Evaded) -> None:
    held = len(views(evaded.sets).owner)
    assert [evaded.of(one).attacker_images for one in (NOISE, DETECT, BOTH)] == [0, held, held]


def test_a_result_is_the_deployed_network(sets: Loaded) -> None:
    arrays = {name: getattr(sets[data_key(DATA)], name) for name in ("x_train", "y_train", "x_test", "y_test")}
    victim = mwm.train_victim(
        data={name: values.transpose(0, 2, 3, 1) if values.ndim == 4 else values for name, values in arrays.items()},
        model=MARKED.model,
        split=MARKED.split,
        scheme=MARKED.scheme,
        recipe=RECIPE,
    )
    assert isinstance(victim, TrainedVictim)
    result = mwm.run_attack(victim, DETECT)
    assert isinstance(result, AttackResult)
    assert isinstance(result.model, Deployed)
    assert mwm.verify(victim.key, result.model).suspects[0].p_value == pytest.approx(result.outcome.p_value)
    again = mwm.run_attack(victim, DETECT)
    assert timeless(again.outcome) == timeless(result.outcome)
    images = torch.rand(5, *sets[data_key(DATA)].shape)
    assert torch.equal(again.model(images), result.model(images))


def test_only_weights_files_hold_what_stands_around_a_network(evaded: Evaded, say: Say, tmp_path: Path) -> None:
    digest = evaded.of(BOTH).digest
    around = "a detector of queries, gaussian_blur, shift, input_noise, top_k 1 renormalize"
    for name, form in (("a.onnx", "onnx"), ("a.ts", "torchscript"), ("a", "mlflow")):
        said = say("model", digest, str(tmp_path / name), "--format", form, "--storage", evaded.place)
        refused = f"--format: {form} is not allowed: {digest} is deployed with {around}, which it cannot hold"
        one_line(said, refused, "allowed: safetensors")
        assert not (tmp_path / name).exists()
    file = tmp_path / "a.safetensors"
    heard(say, "model", digest, str(file), "--storage", evaded.place)
    images = torch.rand(5, *evaded.sets[data_key(DATA)].shape)
    assert torch.equal(load_model(file)(images), load_model(evaded.folder(digest))(images))
