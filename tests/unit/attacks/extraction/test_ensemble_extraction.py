"""Extraction from two sources: the mean of their answers, and calls to both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import Attack, EnsembleExtraction, Extraction
from mwm.attacks.access import TargetFacts
from mwm.config.spec import decode
from mwm.data.images import to_float
from mwm.models.answers import GaussianNoise
from mwm.training.evaluation import predict_logits
from tests.helpers.records import VICTIM
from tests.helpers.stealing import CLASSES, COUNT, FILLED, access_for, forwards, some, steal, victim

SEED = EnsembleExtraction().second_seed


def both() -> list[Tensor]:
    """What the two networks say to the attacker's images."""
    return [predict_logits(network, some().images) for network in (victim(), victim(SEED))]


def halves(logits: list[Tensor]) -> list[list[float]]:
    """Half a vote of each of two networks for the class that it names, image by image."""
    rows = []
    for pair in zip(*(one.tolist() for one in logits), strict=True):
        votes = [0.0] * CLASSES
        for said in pair:
            votes[said.index(max(said))] += 0.5
        rows.append(votes)
    return rows


def test_soft_answers_are_the_mean_of_probabilities() -> None:
    access = access_for(EnsembleExtraction(**FILLED))
    first, second = (logits.double().softmax(1) for logits in both())
    for answers in (access.oracle.ask_all(some().images), access.oracle(to_float(some().images))):
        torch.testing.assert_close(answers.double().exp(), (first + second) / 2, rtol=1e-5, atol=1e-7)


def test_hard_answers_count_half_each() -> None:
    answers = access_for(EnsembleExtraction(labels="hard", **FILLED)).oracle.ask_all(some().images)
    expected = torch.tensor(halves(both()))
    assert 0 < (expected == 0.5).any(1).sum() < COUNT, "the two agree everywhere, or nowhere"
    torch.testing.assert_close(answers.exp(), expected)


def test_halves_are_learnt_by_cross_entropy() -> None:
    attack, logits = EnsembleExtraction(labels="hard", label_smoothing=0.2), torch.randn(COUNT, CLASSES).double()
    answers = access_for(replace(attack, **FILLED)).oracle.ask_all(some().images)
    total = 0.0
    for said, row in zip(halves(both()), logits.log_softmax(1).tolist(), strict=True):
        total -= sum((0.8 * share + 0.2 / CLASSES) * chance for share, chance in zip(said, row, strict=True))
    found = attack.loss(answers.double(), logits, some().labels)
    assert found.item() == pytest.approx(total / COUNT, rel=1e-6)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_with_the_victim_twice_it_is_plain_extraction(labels: Any) -> None:
    attack = EnsembleExtraction(labels=labels, **FILLED)
    access = replace(access_for(attack), others={SEED: victim()})
    twice = attack.grant(victim(), calls=0, **{name: value for name, value in vars(access).items() if name != "oracle"})
    found = steal(attack, twice)
    for name, value in steal(Extraction(labels=labels, **FILLED)).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "views", "calls"),
    [
        ({"query_budget": 20}, True, 40),
        ({"query_budget": 10, "views": 2, "smoothing": 3}, True, 120),
        ({"cache_answers": True}, False, 2 * COUNT),
        ({}, True, 2 * 30 * 3),  # three batches of ten in each of three epochs
        ({}, False, 2 * 30 * 3),  # each image is worked out once, and counted as often as it is learnt
    ],
)
def test_both_are_asked_alike_and_counted(how: dict[str, Any], views: bool, calls: int) -> None:
    attack, model = EnsembleExtraction(**FILLED, **how), victim()
    access = access_for(attack, model, views=views)
    seen = [forwards(one._model) for one in access.oracle._both]
    steal(attack, access)
    if how or views:
        assert [sum(each) for each in seen] == [calls // 2] * 2
    assert access.calls == calls


def test_noise_over_the_two_answers_is_drawn_for_each() -> None:
    """With one network twice, the mean of two noisy answers has half the variance of one."""
    noise = GaussianNoise(deviation=1e-3)
    attack = EnsembleExtraction(oracle=(noise,), query_budget=COUNT, **FILLED)
    one = Extraction(oracle=(noise,), query_budget=COUNT, **FILLED)
    common = {name: value for name, value in vars(access_for(one)).items() if name not in ("oracle", "others")}
    twice = attack.grant(victim(), calls=0, others={SEED: victim()}, **common)
    clean = predict_logits(victim(), some().images).softmax(1)
    sizes = [(access.oracle.ask_all(some().images).exp() - clean).var() for access in (twice, access_for(one))]
    assert (sizes[0] / sizes[1]).item() == pytest.approx(0.5, abs=0.2)


def test_the_second_network_is_asked_for_by_its_seed() -> None:
    attack = EnsembleExtraction(second_seed=5, **FILLED)
    assert attack.other_seeds() == (5,)
    assert Extraction().other_seeds() == ()


class Forgetful(nn.Module):
    """A network that is not to be asked."""

    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError(f"it was asked about {len(images)} images")


def test_no_other_network_is_asked() -> None:
    attack = EnsembleExtraction(**FILLED)
    access = access_for(attack)
    others = {SEED: victim(SEED), 3: Forgetful()}
    common = {name: value for name, value in vars(access).items() if name not in ("oracle", "others")}
    steal(attack, attack.grant(victim(), calls=0, others=others, **common))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"second_seed": -1}, r"^attack\.second_seed: -1 is not allowed"),
        ({"labels": "hard", "temperature": 2.0}, r"^attack\.temperature: 2.0 is not allowed: must be 1 where labels"),
        ({"views": 2}, r"^attack\.views: 2 is not allowed: needs a query_budget"),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "ensemble_extraction", **how}, "attack")


def test_a_second_network_of_the_victims_seed_is_refused() -> None:
    facts = TargetFacts(path="attacks.0", victim=replace(VICTIM, seed=4), datasets={})
    with pytest.raises(ValueError, match=r"^attacks\.0\.second_seed: 4 is not allowed: it is the victim's, and gives"):
        EnsembleExtraction(second_seed=4).validate(facts)
    EnsembleExtraction(second_seed=5).validate(facts)
