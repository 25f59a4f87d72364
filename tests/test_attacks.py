"""Attacks: promises of the whole catalogue, the losses against plain loops, and an oracle that hides what it should."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.attacks import Attack, Distillation, Extraction
from mwm.attacks.student import Loot, divergence
from mwm.augment import augment
from mwm.data import Part
from mwm.fit import Recipe, Step
from mwm.models import Cnn, build, channel_statistics
from mwm.oracle import Oracle, log_probabilities
from mwm.seeds import generator
from mwm.spec import decode
from mwm.store import Store

SHAPE = (1, 6, 6)
CLASSES = 4
COUNT = 34
RECIPE = Recipe(epochs=3, batch_size=10, lr=0.1, momentum=0.9)
STUDENT = Cnn(width=2, depth=1)
FILLED: dict[str, Any] = {"student": STUDENT, "recipe": RECIPE}
CASES: list[Attack] = [
    Extraction(**FILLED),
    Extraction(labels="hard", **FILLED),
    Extraction(temperature=4.0, seed=5, student=Cnn(width=3, depth=2), recipe=RECIPE),
    Distillation(**FILLED),
    Distillation(temperature=3.0, t_squared=True, alpha=0.4, **FILLED),
]
Weights = dict[str, Tensor]


def name(attack: Any) -> str:
    return f"{attack.kind}-{attack.labels}-T{attack.temperature:g}"


def victim() -> nn.Module:
    drawn = torch.Generator().manual_seed(7)
    model = build(Cnn(width=4, depth=2), shape=SHAPE, classes=CLASSES, mean=[0.4], std=[0.3], generator=drawn)
    model.train()(torch.rand(64, *SHAPE, generator=drawn))
    for weight in model.parameters():
        weight.data *= 2
    return model


def some(n: int = COUNT, seed: int = 0) -> Part:
    drawn = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, *SHAPE), generator=drawn, dtype=torch.uint8)
    return Part(images, torch.randint(CLASSES, (n,), generator=drawn))


def loot_for(attack: Any, model: nn.Module | None = None) -> Loot:
    oracle = Oracle(model or victim(), attack.labels)
    return Loot(
        oracle=oracle, images=some(), validation=some(20, 1), classes=CLASSES, flip=True, pad=1, seed=attack.seed
    )


def steal(attack: Any, loot: Loot | None = None) -> Weights:
    *_, last = attack.run(loot or loot_for(attack))
    weights: Weights = last.training.model.state_dict()
    return weights


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[k]) for k, value in one.items())


def relabelled(attack: Any) -> Loot:
    loot = loot_for(attack)
    return replace(loot, images=Part(loot.images.images, (loot.images.labels + 1) % CLASSES))


def test_the_whole_catalogue_is_under_contract() -> None:
    assert {type(case) for case in CASES} == set(get_args(get_args(Attack)[0]))
    assert {case.labels for case in CASES if isinstance(case, Extraction)} == {"soft", "hard"}


@pytest.mark.parametrize("attack", CASES, ids=name)
def test_an_attack_keeps_its_promises(attack: Any) -> None:
    model = victim()
    before, loot = deepcopy(model.state_dict()), loot_for(attack, model)
    rows = list(attack.run(loot))
    first = rows[-1].training.model.state_dict()
    assert same(model.state_dict(), before), "the victim was changed"
    assert all(weight.grad is None for weight in model.parameters()), "gradients reached the victim"
    assert same(first, steal(attack)), "same seed, different student"
    assert not same(first, steal(replace(attack, seed=attack.seed + 1))), "another seed, the same student"
    assert loot.oracle.calls == len(rows) * (COUNT // 10) * 10 == 90, "an oracle call was not counted"
    assert [row.epoch for row in rows] == [1, 2, 3]


@pytest.mark.parametrize("attack", CASES, ids=name)
def test_an_attack_goes_on_where_it_was_interrupted(attack: Any, tmp_path: Path) -> None:
    store, whole = Store(tmp_path), []
    for row in attack.run(loot_for(attack)):
        whole.append((row.epoch, row.loss, row.val_acc))
        store.save_checkpoint(f"after-{row.epoch}", row.training.state())
    for epoch in (1, 2):
        loot = replace(loot_for(attack), start=store.checkpoint(f"after-{epoch}"))
        rows = list(attack.run(loot))
        assert [(row.epoch, row.loss, row.val_acc) for row in rows] == whole[epoch:]
        assert same(rows[-1].training.model.state_dict(), row.training.model.state_dict())
        assert loot.oracle.calls == 30 * (3 - epoch)


def plain_student(attack: Any, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> nn.Module:
    """One epoch of the plain loop: loss(student logits, victim logits, true labels), SGD with weight decay."""
    part, teacher = some(), victim().eval()
    mean, std = channel_statistics(part.images)
    drawn = generator(attack.seed, "student")
    model = build(STUDENT, shape=SHAPE, classes=CLASSES, mean=mean, std=std, generator=drawn).train()
    order, shift = (generator(attack.seed, use, 0) for use in ("order", "augment"))
    shuffled, weights = torch.randperm(COUNT, generator=order), list(model.parameters())
    for step in range(3):
        rows = shuffled[10 * step : 10 * step + 10]
        images = augment(part.images[rows], True, 1, shift).float() / 255
        with torch.no_grad():
            known = teacher(images)
        slopes = torch.autograd.grad(loss(model(images), known, part.labels[rows]), weights)
        for weight, slope in zip(weights, slopes, strict=True):
            weight.data = weight.data - 0.1 * (slope + 1e-4 * weight.data)
    return model


def soft(student: Tensor, known: Tensor, t: float) -> Tensor:
    """KL at temperature t, sample by sample and class by class."""
    p, q = torch.softmax(known / t, 1), torch.softmax(student / t, 1)
    rows = [sum(p[i, c] * torch.log(p[i, c] / q[i, c]) for c in range(CLASSES)) for i in range(len(p))]
    return torch.stack([torch.as_tensor(row) for row in rows]).mean()


def formula(attack: Any, taught: float, asked: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`taught` times the cross-entropy of the labels plus `asked` times the divergence at the attack's temperature."""

    def loss(student: Tensor, known: Tensor, labels: Tensor) -> Tensor:
        named = known.argmax(1) if attack.labels == "hard" else labels
        chances = torch.log_softmax(student, 1)[torch.arange(len(named)), named]
        return -taught * chances.mean() + asked * soft(student, known, attack.temperature)

    return loss


@pytest.mark.parametrize(
    ("attack", "taught", "asked"),
    [
        (Extraction(), 0, 1),
        (Extraction(temperature=4.0, seed=5), 0, 1),
        (Extraction(labels="hard"), 1, 0),
        (Distillation(), 0.3, 0.7),
        (Distillation(temperature=2.0, alpha=0.4), 0.6, 0.4),
        (Distillation(temperature=3.0, alpha=0.4, t_squared=True), 0.6, 9 * 0.4),
        (Distillation(alpha=0.0), 1, 0),
        (Distillation(alpha=1.0), 0, 1),
    ],
    ids=lambda value: name(value) if hasattr(value, "kind") else f"{value:g}",
)
def test_students_learn_by_the_formula(attack: Any, taught: float, asked: float) -> None:
    recipe = Recipe(epochs=1, batch_size=10, schedule=Step())
    stolen = steal(replace(attack, student=STUDENT, recipe=recipe))
    plain = plain_student(attack, formula(attack, taught, asked)).state_dict()
    for key, value in plain.items():
        torch.testing.assert_close(stolen[key], value, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("attack", CASES, ids=name)
def test_true_labels_matter_to_distillation_alone(attack: Any) -> None:
    unmoved = same(steal(attack), steal(attack, relabelled(attack)))
    assert unmoved == isinstance(attack, Extraction)


def test_distillation_with_answers_alone_is_soft_extraction() -> None:
    one = steal(Distillation(alpha=1.0, temperature=2.0, **FILLED))
    other = steal(Extraction(temperature=2.0, **FILLED))
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-5, atol=1e-6)


class Sharper(nn.Module):
    """A victim of the same labels and other probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = 3 * self.model(images)
        return answers


def test_hard_extraction_learns_nothing_but_labels() -> None:
    for attack, alike in ((Extraction(labels="hard", **FILLED), True), (Extraction(**FILLED), False)):
        assert same(steal(attack), steal(attack, loot_for(attack, Sharper(victim())))) == alike


@pytest.mark.parametrize("answers", ["soft", "hard"])
def test_an_oracle_answers_counts_and_stays_as_it_is(answers: Any) -> None:
    model, images = victim().train(), some().images / 255
    before, expected = deepcopy(model.state_dict()), deepcopy(model).eval()(images).detach()
    oracle = Oracle(model, answers)
    found = [oracle(batch) for batch in (images[:7], images[7:], images[:5])]
    assert oracle.calls == COUNT + 5
    assert same(model.state_dict(), before)
    assert not any(answer.requires_grad for answer in found)
    if answers == "hard":
        assert {answer.dtype for answer in found} == {torch.int64}
        assert torch.equal(torch.cat(found[:2]), expected.argmax(1))
    else:
        torch.testing.assert_close(torch.cat(found[:2]), torch.log(torch.softmax(expected, 1)), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[2].exp().sum(1), torch.ones(5))


def test_a_pixel_gets_no_slope_through_the_oracle() -> None:
    images = (some().images / 255).requires_grad_()
    assert not Oracle(victim(), "soft")(images).requires_grad
    assert images.grad is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 6), st.floats(0.2, 10))
def test_the_divergence_is_that_of_a_plain_loop(seed: int, n: int, classes: int, temperature: float) -> None:
    drawn = torch.Generator().manual_seed(seed)
    teacher, student = (3 * torch.randn(2, n, classes, generator=drawn, dtype=torch.float64)).unbind()
    total = 0.0
    for row, guess in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = ([math.exp(z / temperature) for z in logits] for logits in (row, guess))
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    found = divergence(log_probabilities(teacher), student, temperature)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(total / n, rel=1e-9, abs=1e-12)
    assert divergence(log_probabilities(teacher), teacher, temperature).item() == pytest.approx(0, abs=1e-12)


def test_log_probabilities_are_float32_at_least() -> None:
    logits = torch.tensor([[0.1, 2.0, -30.0]])
    for given_type, expected in ((torch.bfloat16, torch.float32), (torch.float16, torch.float32)):
        short = logits.to(given_type)
        found = log_probabilities(short)
        assert found.dtype == expected
        torch.testing.assert_close(found.double(), torch.log_softmax(short.double(), 1), rtol=1e-6, atol=1e-6)
    assert log_probabilities(logits).dtype == torch.float32
    assert log_probabilities(logits.double()).dtype == torch.float64


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_divergence_is_in_float32_under_bf16(temperature: float) -> None:
    teacher, student, images = victim().eval(), victim().train(), some().images / 255
    with torch.autocast("cpu", torch.bfloat16):
        answers, short = Oracle(teacher, "soft")(images), student(images)
        found = divergence(answers, short, temperature)
    assert (answers.dtype, short.dtype, found.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    exact = divergence(answers.double(), short.detach().double(), temperature).item()
    assert found.item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("attack", CASES, ids=name)
def test_every_attack_runs_in_bf16(attack: Any) -> None:
    short = replace(attack, recipe=replace(RECIPE, bf16=True, channels_last=True))
    rows, plain = list(short.run(loot_for(short))), list(attack.run(loot_for(attack)))
    assert rows[0].loss == pytest.approx(plain[0].loss, rel=0.05)
    assert {weight.dtype for weight in rows[-1].training.model.parameters()} == {torch.float32}


def test_the_defaults_are_the_published_ones() -> None:
    extraction, distillation = decode(Attack, "extraction"), decode(Attack, "distillation")
    assert (extraction.labels, extraction.temperature, extraction.source.kind) == ("soft", 1.0, "same")
    assert (distillation.alpha, distillation.temperature, distillation.t_squared) == (0.7, 1.0, False)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"kind": "distillation", "source": "digits"}, r"attack\.source: 'digits' is not allowed: true labels need"),
        ({"kind": "distillation", "labels": "hard"}, r"attack\.labels: 'hard' is not allowed"),
        ({"kind": "distillation", "alpha": 1.1}, r"attack\.alpha: 1.1 is not allowed"),
        ({"kind": "extraction", "temperature": 0.0}, r"attack\.temperature: 0.0 is not allowed"),
        ({"kind": "extraction", "labels": "top"}, r"attack\.labels: 'top' is not allowed"),
        ({"kind": "extraction", "alpha": 0.5}, r"attack\.alpha: unknown key"),
        ("piracy", r"attack: kind 'piracy' is unknown; allowed: 'extraction', 'distillation'"),
    ],
)
def test_wrong_values_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, tree, "attack")
