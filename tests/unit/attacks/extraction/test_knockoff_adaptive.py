"""The adaptive knockoff: its bandit against a plain transcription, and what it draws."""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from mwm.attacks import Attack, KnockoffAdaptive
from mwm.attacks.extraction.knockoff_adaptive import Bandit, Reward
from mwm.config.spec import decode
from mwm.data.datasets import Digits
from mwm.data.splits import LabeledImages
from mwm.training.evaluation import predict_logits
from tests.helpers.stealing import CLASSES, COUNT, FILLED, access_for, some, steal

ACTIONS = 5
Draws = list[tuple[int, list[float], list[float]]]


def draws(count: int, seed: int = 0) -> Draws:
    """Actions, answers and what a student says of them."""
    drawn = torch.Generator().manual_seed(seed)
    answers, guesses = torch.randn(2, count, CLASSES, generator=drawn, dtype=torch.float64).softmax(2)
    actions = torch.randint(ACTIONS, (count,), generator=drawn)
    return list(zip(actions.tolist(), answers.tolist(), guesses.tolist(), strict=True))


class Plain:
    """The published bandit, number by number."""

    def __init__(self, actions: int) -> None:
        self.preferences, self.pulls = [0.0] * actions, [0] * actions
        self.mean_reward, self.mean_answer = 0.0, [0.0] * CLASSES
        self.means, self.variances, self.count = [0.0] * 3, [0.0] * 3, 0

    def reward(self, kind: str, answer: list[float], guess: list[float]) -> float:
        n = self.count = self.count + 1
        self.mean_answer = [mean + (p - mean) / n for mean, p in zip(self.mean_answer, answer, strict=True)]
        *_, second, first = sorted(answer)
        terms = [
            first - second,
            sum(max(0.0, p - mean) for p, mean in zip(answer, self.mean_answer, strict=True)),
            -sum(p * math.log(q) for p, q in zip(answer, guess, strict=True)),
        ]
        if kind != "all":
            return terms[["certainty", "diversity", "loss"].index(kind)]
        scores = []
        for k, term in enumerate(terms):
            self.means[k] += (term - self.means[k]) / n
            self.variances[k] += ((term - self.means[k]) ** 2 - self.variances[k]) / n
            scores.append((term - self.means[k]) / math.sqrt(self.variances[k]) if n > 1 else max(min(term, 1), 0))
        return sum(scores) / 3

    def learn(self, action: int, reward: float) -> None:
        total = sum(math.exp(h) for h in self.preferences)
        policy = [math.exp(h) / total for h in self.preferences]
        self.mean_reward += (reward - self.mean_reward) / self.count
        self.pulls[action] += 1
        for b, chance in enumerate(policy):
            moved = 1 - chance if b == action else -chance
            self.preferences[b] += (reward - self.mean_reward) * moved / self.pulls[action]


@pytest.mark.parametrize("kind", get_args(Reward))
def test_the_bandit_is_that_of_a_plain_transcription(kind: Reward) -> None:
    ours, plain = Bandit.fresh(ACTIONS, CLASSES), Plain(ACTIONS)
    for action, answer, guess in draws(60):
        reward = ours.reward(
            kind, torch.tensor(answer, dtype=torch.float64), torch.tensor(guess, dtype=torch.float64).log()
        )
        expected = plain.reward(kind, answer, guess)
        assert reward == pytest.approx(expected, abs=1e-9)
        ours.learn(action, expected)
        plain.learn(action, expected)
        assert ours.preferences.tolist() == pytest.approx(plain.preferences, abs=1e-9)
    assert ours.preferences.abs().max() > 0.01


def test_a_bandit_goes_on_from_its_memory() -> None:
    one = Bandit.fresh(ACTIONS, CLASSES)
    for action, answer, guess in draws(9):
        one.learn(action, one.reward("all", torch.tensor(answer), torch.tensor(guess).log()))
    kept = deepcopy(one.memory())
    other = Bandit.restored(kept)
    (action, answer, guess), *_ = draws(1, seed=3)
    for bandit in (one, other):
        bandit.learn(action, bandit.reward("all", torch.tensor(answer), torch.tensor(guess).log()))
    assert all(torch.equal(one.memory()[name], value) for name, value in other.memory().items())
    assert not torch.equal(kept["preferences"], other.preferences), "the memory itself was changed"


def test_terms_without_a_spread_count_nothing() -> None:
    bandit, answer = Bandit.fresh(2, CLASSES), torch.tensor([1.0, 0, 0, 0]).double()
    rewards = []
    for _ in range(3):
        rewards.append(bandit.reward("all", answer, torch.full((CLASSES,), -math.log(CLASSES)).double()))
        bandit.learn(0, rewards[-1])
    assert rewards == [pytest.approx((1 + 0 + 1) / 3), 0.0, 0.0]


def test_what_pays_is_preferred() -> None:
    bandit, drawn = Bandit.fresh(3, CLASSES), torch.Generator().manual_seed(0)
    for _ in range(300):
        action = int(torch.multinomial(bandit.preferences.softmax(0), 1, generator=drawn))
        bandit.reward("certainty", torch.ones(CLASSES).double() / CLASSES, torch.zeros(CLASSES).double())
        bandit.learn(action, float(action == 1))
    assert bandit.preferences.argmax() == 1


def expected_memory(attack: Any, state: dict[str, Any], model: Any, access: Any) -> Plain:
    """The bandit after the first lot, by a student that learnt it."""
    rows, plain = state["asked"]["rows"], Plain(int(access.images.labels.max()) + 1)
    guesses = predict_logits(model, access.images.images[rows]).softmax(1).tolist()
    answers = state["asked"]["answers"]
    chances = torch.nn.functional.one_hot(answers, CLASSES).double() if answers.ndim == 1 else answers.exp().double()
    for row, answer, guess in zip(rows.tolist(), chances.tolist(), guesses, strict=True):
        plain.learn(int(access.images.labels[row]), plain.reward(attack.reward, answer, guess))
    return plain


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize("reward", ["diversity", "loss"])
def test_rewards_are_those_of_the_student_that_learnt_the_lot(labels: Any, reward: Any) -> None:
    attack = KnockoffAdaptive(labels=labels, reward=reward, query_budget=24, round_images=12, **FILLED)
    access = access_for(attack)
    rows = attack.run(access)
    first = next(rows)
    plain = expected_memory(attack, first.training.state(), deepcopy(first.training.model), access)
    memory = next(rows).training.state()["memory"]
    assert memory["preferences"].tolist() == pytest.approx(plain.preferences, abs=1e-4)
    assert memory["pulls"].tolist() == plain.pulls
    assert sum(plain.pulls) == 12


def counted(rows: Tensor, labels: Tensor) -> Counter[int]:
    return Counter(labels[rows].tolist())


def test_classes_are_drawn_at_first_as_if_all_were_as_many_and_none_beyond_its_images() -> None:
    rare = torch.tensor([0] * 4 + [1] * (COUNT - 4))
    attack = KnockoffAdaptive(query_budget=COUNT, round_images=COUNT // 2, round_epochs=1, **FILLED)
    access = replace(access_for(attack), images=LabeledImages(some().images, rare))
    states = [row.training.state() for row in attack.run(access)]
    assert counted(states[0]["asked"]["rows"], rare)[0] == 4, "3 of 17 draws fall on the rare class but by chance"
    assert counted(states[-1]["asked"]["rows"], rare) == {0: 4, 1: COUNT - 4}


def test_labels_of_another_data_set_are_no_true_labels() -> None:
    own, foreign = KnockoffAdaptive(query_budget=100), KnockoffAdaptive(query_budget=100, source=Digits())
    assert own.knows_labels()
    assert own.threat_model().true_labels
    assert not foreign.knows_labels()
    assert (foreign.threat_model().true_labels, foreign.threat_model().images) == (False, "digits")


def test_any_number_of_actions_is_possible() -> None:
    many = torch.arange(COUNT) + 40
    attack = KnockoffAdaptive(query_budget=20, round_images=6, **FILLED)
    access = replace(access_for(attack), images=LabeledImages(some().images, many))
    steal(attack, access)
    assert access.calls == 20


def test_certainty_of_hard_answers_is_refused() -> None:
    words = r"^attack\.reward: 'certainty' is not allowed: hard answers are all as certain$"
    tree = {"kind": "knockoff_adaptive", "query_budget": 100, "labels": "hard", "reward": "certainty"}
    with pytest.raises(ValueError, match=words):
        decode(Attack, tree, "attack")
