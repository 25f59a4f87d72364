"""Evasion: weights stay as they are, what is deployed is asked or deployed further, and never changed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mwm.attacks import (
    AnswerRestriction,
    Attack,
    AttackSequence,
    BatchNormReestimation,
    Extraction,
    FineTuning,
    InputTransforms,
    MajorityVote,
    QueryDetection,
)
from mwm.attacks.access import TargetFacts
from mwm.attacks.threat import ThreatModel
from mwm.config.spec import decode
from mwm.models.answers import Rounding, TopK
from mwm.models.deployed import Deployed
from mwm.models.inputs import BitDepth, InputNoise, Jpeg, Shift
from mwm.trials.trial import data_key
from tests.helpers.records import DATA, RECIPE, VICTIM, Loaded
from tests.helpers.stealing import FILLED, access_for, some, victim
from tests.unit.attacks.evasion.cases import CASES

SINGLE: list[Any] = [case for case in CASES if not isinstance(case, AttackSequence)]


@pytest.mark.parametrize("attack", SINGLE, ids=lambda one: one.kind)
def test_no_weight_changes_and_something_stands_around_them(attack: Any) -> None:
    model = victim()
    before = deepcopy(model.state_dict())
    (row,) = attack.run(access_for(attack, model))
    found = row.training.model
    assert isinstance(found, Deployed)
    assert found.deployment == attack.deployment() == attack.deployments()[0]
    inside = found.network.state_dict()
    assert inside.keys() == before.keys()
    assert all(torch.equal(inside[name], value) for name, value in before.items())
    images = some(20, 3).images / 255
    assert not torch.equal(found.eval()(images), model.eval()(images))


@pytest.mark.parametrize("attack", SINGLE, ids=lambda one: one.kind)
def test_it_is_said_what_the_attacker_is_given(attack: Any) -> None:
    images = "victim_data" if isinstance(attack, QueryDetection) else "none"
    start: Any = "victim's weights"
    expected = ThreatModel(access="white box", images=images, true_labels=False, answers="", start=start)
    assert attack.threat_model() == expected
    assert attack.epochs() == 1
    assert not attack.knows_labels()


def test_a_sequence_says_what_its_steps_use() -> None:
    noise, vote, detect = InputTransforms(transforms=(InputNoise(),)), MajorityVote(), QueryDetection()
    assert AttackSequence(steps=(noise, vote)).threat_model().images == "none"
    assert AttackSequence(steps=(noise, detect)).threat_model().images == "victim_data"
    assert AttackSequence(steps=(vote, Extraction())).threat_model().images == "victim_data"


def test_deployments_of_steps_stand_around_each_other_until_somebody_asks() -> None:
    repair, noise, vote = BatchNormReestimation(), InputTransforms(transforms=(InputNoise(),)), MajorityVote()
    detect, theft, label = QueryDetection(), Extraction(), AnswerRestriction()
    cases: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = [
        ((repair, noise, vote), (noise, vote)),
        ((noise, detect, label), (noise, detect, label)),
        ((noise, theft), ()),
        ((noise, vote, theft, FineTuning()), ()),
        ((noise, theft, repair, detect, label), (detect, label)),
        ((theft, FineTuning()), ()),
    ]
    for steps, left in cases:
        assert AttackSequence(steps=steps).deployments() == tuple(one.deployment() for one in left)


def test_steps_stand_around_each_other_in_their_order() -> None:
    outer, inner = InputTransforms(transforms=(Shift(pixels=2),)), InputTransforms(transforms=(BitDepth(levels=2),))
    attack = AttackSequence(steps=(inner, outer))
    *_, row = attack.run(access_for(attack))
    found: Any = row.training.model.eval()
    images = some(20, 3).images / 255
    assert (found.deployment, found.network.deployment) == (outer.deployment(), inner.deployment())
    seen: list[torch.Tensor] = []
    found.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found.network.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found(images)
    shifted, squeezed = seen
    assert not torch.equal(shifted, images)
    assert torch.equal(squeezed, shifted.round())


def test_who_asks_a_deployed_network_hears_what_it_answers() -> None:
    evasion, theft = AnswerRestriction(), Extraction(**FILLED)
    attack = AttackSequence(steps=(evasion, theft))
    access = access_for(attack)
    rows = list(attack.run(access))
    hard = AttackSequence(steps=(evasion, Extraction(labels="hard", **FILLED)))
    assert access.calls == theft.epochs() * 30
    soft_loss, hard_loss = (rows[1].loss, list(hard.run(access_for(hard)))[1].loss)
    assert soft_loss == pytest.approx(hard_loss, rel=1e-4), "labels alone are the same, softly or hard"


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (
            ["majority_vote", "fine_tuning"],
            r"^a.steps.1: 'fine_tuning' is not allowed: the network is deployed with a vote of 9 copies, and its "
            r"weights are changed no more; allowed: an attack that asks it, or another that deploys it$",
        ),
        (
            [{"kind": "input_transforms", "transforms": ["jpeg"]}, "query_detection", "batchnorm_reestimation"],
            r"^a.steps.2: 'batchnorm_reestimation' is not allowed: the network is deployed with a detector of queries",
        ),
        (["answer_restriction", "extraction", "majority_vote", "fine_tuning"], r"^a.steps.3: 'fine_tuning' is not"),
    ],
)
def test_weights_that_are_deployed_are_changed_no_more(steps: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        decode(Attack, {"kind": "sequence", "steps": steps}, "a")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ("input_transforms", r"^a.transforms: is missing"),
        ({"kind": "input_transforms", "transforms": []}, r"^a.transforms: \[\] is not allowed"),
        ({"kind": "input_transforms", "transforms": ["mirror"]}, r"^a.transforms.0: kind 'mirror' is unknown"),
        ({"kind": "majority_vote", "copies": 1}, r"^a.copies: 1 is not allowed: must be greater than or equal to 2$"),
        ({"kind": "majority_vote", "noise": 0.0, "shift": 0}, r"^a: noise: 0 is not allowed with shift: 0: all copies"),
        ({"kind": "majority_vote", "by": "mean"}, r"^a.by: 'mean' is not allowed"),
        (
            {"kind": "query_detection", "false_rejects": 1.0},
            r"^a.false_rejects: 1.0 is not allowed: must be less than 1",
        ),
        ({"kind": "query_detection", "method": "auto"}, r"^a.method: 'auto' is not allowed"),
        ({"kind": "query_detection", "neighbors": 0}, r"^a.neighbors: 0 is not allowed"),
        ({"kind": "answer_restriction", "forms": []}, r"^a.forms: \[\] is not allowed"),
    ],
)
def test_wrong_values_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        decode(Attack, tree, "a")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (
            AnswerRestriction(forms=(Rounding(), TopK(k=4))),
            r"^here.forms.1.k: 4 is not allowed: must be below 4, the number of classes$",
        ),
        (
            AttackSequence(steps=(MajorityVote(), Extraction(recipe=replace(RECIPE, cuda_graph=True)))),
            r"^here.steps.1.recipe.cuda_graph: true is not allowed: here.steps.1 asks a network that is deployed "
            r"with a vote of 9 copies, which cannot be recorded$",
        ),
        (AttackSequence(steps=(QueryDetection(neighbors=3), AnswerRestriction())), ""),
        (AttackSequence(steps=(MajorityVote(), Extraction(recipe=RECIPE))), ""),
        (InputTransforms(transforms=(BitDepth(), Jpeg())), ""),
    ],
)
def test_what_does_not_go_with_the_victim_is_refused(attack: Any, words: str, sets: Loaded) -> None:
    facts = TargetFacts(path="here", victim=VICTIM, datasets={DATA: sets[data_key(DATA)]})
    if not words:
        attack.validate(facts)
        return
    with pytest.raises(ValueError, match=words):
        attack.validate(facts)


def test_jpeg_is_refused_for_images_of_two_channels(sets: Loaded) -> None:
    held = sets[data_key(DATA)]
    both = replace(held, x_train=np.repeat(held.x_train, 2, 1), x_test=np.repeat(held.x_test, 2, 1))
    facts = TargetFacts(path="here", victim=VICTIM, datasets={DATA: both})
    words = r"^here.transforms.1: 'jpeg' is not allowed: images have 2 channels; allowed: 1 or 3$"
    with pytest.raises(ValueError, match=words):
        InputTransforms(transforms=(BitDepth(), Jpeg())).validate(facts)


def test_defaults_are_those_of_the_papers() -> None:
    detect, label = decode(Attack, "query_detection"), decode(Attack, "answer_restriction")
    assert (detect.method, detect.space, detect.neighbors, detect.false_rejects) == ("knn", "features", 50, 0.05)
    assert (detect.action, detect.references) == ("refuse", 5000)
    assert decode(Attack, {"kind": "input_transforms", "transforms": ["jpeg"]}).transforms == (Jpeg(quality=65),)
    assert [one.kind for one in label.forms] == ["top_k"]
