"""Extraction in rounds: budgets, what is asked once, what a student learns, and resumes that ask nothing again."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.attacks import ActiveLearning, Attack, AttackSequence, Extraction, JacobianAugmentation, KnockoffAdaptive
from mwm.attacks.access import TargetFacts
from mwm.attacks.extraction.rounds import Asked, RoundsAttack
from mwm.attacks.sequence import AttackedNetwork
from mwm.config.spec import decode
from mwm.data.datasets import Digits
from mwm.data.readers import load_dataset
from mwm.data.splits import SplitSizes
from mwm.training.recipe import Recipe
from mwm.training.step import Batch
from tests.helpers.stealing import COUNT, FILLED, RECIPE, STUDENT, access_for, forwards, same, some, steal, victim
from tests.unit.attacks.extraction.cases import CASES

ROUNDS: list[Any] = [case for case in CASES if isinstance(case, RoundsAttack)]
QUICK: dict[str, Any] = {"student": STUDENT, "recipe": replace(RECIPE, epochs=1)}


def told(attack: Any) -> str:
    return f"{attack.kind}-{ROUNDS.index(attack)}"


class Listening(nn.Module):
    """A victim that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.asked = victim(), list[bytes]()

    def forward(self, images: Tensor) -> Tensor:
        assert torch.equal((255 * images).round() / 255, images), "an API takes pictures"
        self.asked += [(255 * image).round().byte().numpy().tobytes() for image in images]
        answers: Tensor = self.model(images)
        return answers


@st.composite
def thieves(draw: st.DrawFn) -> Any:
    """Attacks of odd sizes."""
    kind, budget = draw(st.sampled_from(["knockoff", "active", "jacobian"])), draw(st.integers(2, COUNT))
    some_images = draw(st.integers(1, budget - 1))
    if kind == "knockoff":
        return KnockoffAdaptive(query_budget=budget, round_images=max(some_images, budget // 4), **QUICK)
    rounds = draw(st.integers(1, 4))
    if kind == "active":
        seeds = draw(st.none() | st.just(some_images))
        strategy = draw(st.sampled_from(["random", "entropy", "k_center"]))
        how: Any = {"strategy": strategy, "seed_images": seeds, "rounds": rounds, "round_epochs": 1}
        return ActiveLearning(query_budget=budget, **how, **QUICK)
    most, limit = draw(st.none() | st.integers(4, 9)), draw(st.just(4) | st.just(rounds))
    variant = draw(st.sampled_from(["plain", "self", "top_k", "random_target"]))
    more: Any = {"variant": variant, "seed_images": some_images, "rounds": limit, "most_per_round": most}
    return JacobianAugmentation(query_budget=budget, **more, **QUICK)


@settings(max_examples=25, deadline=None)
@given(thieves())
def test_no_budget_is_exceeded_and_nothing_is_asked_twice(attack: Any) -> None:
    listening, pool = Listening(), {image.numpy().tobytes() for image in some().images}
    access = access_for(attack, listening)
    steal(attack, access)
    lots, taken = attack.lots(), [image for image in listening.asked if image in pool]
    assert min(lots) >= 1
    assert access.calls == len(listening.asked) == sum(lots) <= attack.query_budget
    assert len({*taken}) == len(taken)
    if isinstance(attack, JacobianAugmentation):
        assert set(listening.asked[: attack.seed_images]) <= pool
    else:
        assert len(taken) == attack.query_budget


def states(attack: Any, access: Any) -> Iterator[tuple[dict[str, Any], int]]:
    """What a checkpoint holds after each epoch, and the calls by then."""
    for row in attack.run(access):
        yield deepcopy(row.training.state()), access.calls


@pytest.mark.parametrize("attack", ROUNDS, ids=told)
def test_a_resumed_attack_asks_nothing_again(attack: Any) -> None:
    access = access_for(attack)
    for state, calls in [*states(attack, access)][:-1]:
        seen, model = 0, victim()
        counted = forwards(model)
        resumed = access_for(attack, model, calls=calls, start=state)
        for _ in attack.run(resumed):
            seen = sum(counted)
        assert calls + seen == resumed.calls == access.calls == sum(attack.lots())


def test_the_last_student_is_a_fresh_one_of_all_answers() -> None:
    attack = ActiveLearning(strategy="random", query_budget=COUNT, rounds=2, round_epochs=1, **FILLED)
    assert same(steal(attack), steal(Extraction(query_budget=COUNT, **FILLED)))


def plain_steps(model: nn.Module, images: Tensor, answers: Tensor) -> None:
    """A step of SGD on one batch that is all of some images."""
    logits, weights = model.train()(images.float() / 255), list(model.parameters())
    loss = (answers.exp() * (answers - logits.log_softmax(1))).sum(1).mean()
    for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.data = weight.data - 0.1 * (slope + 1e-4 * weight.data)


def test_the_student_of_a_bandit_goes_on_with_each_lot_alone() -> None:
    recipe = Recipe(epochs=3, batch_size=10, lr=0.1)
    attack = KnockoffAdaptive(query_budget=24, round_images=8, student=STUDENT, recipe=recipe)
    access, weights, asked = access_for(attack, views=False), [], {}
    for row in attack.run(access):
        weights.append(deepcopy(row.training.model.state_dict()))
        asked = row.training.state()["asked"]
    model = attack.fresh_student(access, some().images, 0)
    model.load_state_dict(weights[0])
    plain_steps(model, some().images[asked["rows"][8:16]], asked["answers"][8:16])
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=2e-6)


def test_a_fresh_student_of_each_round_learns_all_so_far() -> None:
    attack = ActiveLearning(query_budget=30, seed_images=6, rounds=2, round_epochs=1, augment=False, **FILLED)
    sizes = []
    for row in attack.run(access_for(attack)):
        state = row.training.state()
        sizes.append(len(state["asked"]["rows"]))
        assert row.training.epochs == attack.epochs() == 2 * 1 + 3
    assert sizes == [6, 18, 30, 30, 30]


def test_labels_are_learnt_by_their_cross_entropy_and_probabilities_by_their_divergence() -> None:
    attack = ActiveLearning(query_budget=20, label_smoothing=0.2)
    logits, named = torch.randn(6, 4), torch.arange(6) % 4
    assert torch.equal(attack.loss(named, logits, named), F.cross_entropy(logits, named, label_smoothing=0.2))
    answers = torch.randn(6, 4).log_softmax(1)
    assert torch.equal(
        attack.loss(answers, logits, named), Extraction(label_smoothing=0.2).loss(answers, logits, named)
    )


def test_groups_of_a_batch_fit_into_what_was_asked() -> None:
    recipe = replace(RECIPE, batchnorm_groups=5)
    attack = ActiveLearning(query_budget=20, seed_images=3, rounds=3, student=STUDENT, recipe=recipe)
    *_, last = attack.run(access_for(attack))
    assert last.epoch == attack.epochs()


@pytest.mark.parametrize("hard", [False, True])
def test_what_was_asked_is_taught_in_its_order(hard: bool) -> None:
    pool, made = some().images, 255 - some(4, seed=5).images
    answers = torch.randn(9, 4).log_softmax(1)
    kept = answers.argmax(1) if hard else answers
    rows = torch.tensor([30, 2, 7, 19, 4])
    asked = Asked.nothing(pool).with_rows(rows[:3], kept[:3]).with_rows(rows[3:], kept[3:5]).with_made(made, kept[5:])
    assert len(asked) == 9
    for one in (asked, Asked.restored(asked.state(), pool.device)):
        (part, ask), (last, ask_last) = one.lesson(pool), one.lesson(pool, 7)
        assert isinstance(part.images, Tensor)
        assert isinstance(last.images, Tensor)
        assert torch.equal(part.images, torch.cat([pool[rows], made]))
        assert torch.equal(part.labels, answers.argmax(1))
        index = torch.tensor([1, 0])
        assert torch.equal(last.images, made[2:])
        assert torch.equal(ask_last(Batch(last.images[index], last.labels[index], index)), kept[[8, 7]])
        assert torch.equal(ask(Batch(part.images[index], part.labels[index], index)), kept[[1, 0]])


@pytest.mark.parametrize("kind", ["knockoff_adaptive", "active_learning", "jacobian_augmentation"])
@pytest.mark.parametrize("field", ["views", "cache_answers", "own_labels", "smoothing", "noise", "filter", "neighbors"])
def test_what_belongs_to_a_random_transfer_set_is_unknown(kind: str, field: str) -> None:
    with pytest.raises(ValueError, match=rf"^attack\.{field}: unknown key"):
        decode(Attack, {"kind": kind, "query_budget": 200, field: 2}, "attack")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"kind": "active_learning"}, r"^attack\.query_budget: is missing$"),
        (
            {"kind": "knockoff_adaptive", "query_budget": 20},
            r"^attack\.query_budget: 20 is not allowed: must be above round_images, 32: nothing is left to choose$",
        ),
        (
            {"kind": "active_learning", "query_budget": 20, "seed_images": 20},
            r"^attack\.query_budget: 20 is not allowed: must be above seed_images, 20",
        ),
        (
            {"kind": "jacobian_augmentation", "query_budget": 100},
            r"^attack\.query_budget: 100 is not allowed: must be above seed_images, 100",
        ),
        (
            {"kind": "active_learning", "query_budget": 20, "round_epochs": 0},
            r"^attack\.round_epochs: 0 is not allowed",
        ),
        (
            {"kind": "active_learning", "query_budget": 20, "labels": "hard", "flatten": True},
            r"^attack\.flatten: true is not allowed: hard answers have no probabilities$",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, how, "attack")


def test_the_data_and_the_batch_bound_the_budget() -> None:
    digits = Digits()
    target = AttackedNetwork(data=digits, split=SplitSizes(), model=STUDENT, recipe=RECIPE)
    facts = TargetFacts(path="attacks.0", victim=target, datasets={digits: load_dataset(digits)})
    ActiveLearning(query_budget=1000).validate(facts)
    with pytest.raises(
        ValueError, match=r"^attacks\.0\.query_budget: 5000 is not allowed: the attacker has \d+ images"
    ):
        KnockoffAdaptive(query_budget=5000).validate(facts)
    JacobianAugmentation(query_budget=5000).validate(facts)
    with pytest.raises(ValueError, match=r"^attacks\.0\.seed_images: 5000 is not allowed: the attacker has \d+ images"):
        JacobianAugmentation(query_budget=6000, seed_images=5000).validate(facts)
    with pytest.raises(ValueError, match=r"^attacks\.0\.query_budget: 9 is not allowed: must be at least 10, vic"):
        ActiveLearning(query_budget=9).validate(facts)
    with pytest.raises(ValueError, match=r"^attacks\.0\.targets: 10 is not allowed: there are 9 other classes$"):
        JacobianAugmentation(query_budget=500, variant="top_k", targets=10).validate(facts)


def test_a_step_of_a_sequence_knows_labels_by_the_images_of_the_sequence() -> None:
    steps: Any = (Extraction(), KnockoffAdaptive(query_budget=100))
    assert AttackSequence(steps=steps).knows_labels()
    assert not AttackSequence(steps=steps, source=Digits()).knows_labels()
