"""Attacks: promises of the whole catalogue, the losses against plain loops, budgets that are kept to."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.attacks import Attack, Distillation, Extraction
from mwm.attacks.student import Loot, divergence, transfer_set
from mwm.augment import augment
from mwm.data import Part
from mwm.models import Cnn, build, channel_statistics
from mwm.oracle import Oracle, log_probabilities
from mwm.recipe import Recipe, Step
from mwm.seeds import generator
from mwm.spec import decode
from mwm.store import Store
from tests.stealing import CLASSES, COUNT, FILLED, RECIPE, SHAPE, STUDENT, loot_for, same, some, steal, victim

CASES: list[Attack] = [
    Extraction(**FILLED),
    Extraction(labels="hard", **FILLED),
    Extraction(temperature=4.0, seed=5, student=Cnn(width=3, depth=2), recipe=RECIPE),
    Distillation(**FILLED),
    Distillation(temperature=3.0, t_squared=True, alpha=0.4, **FILLED),
    Extraction(budget=COUNT, **FILLED),
    Extraction(labels="hard", budget=10, **FILLED),
    Distillation(budget=25, **FILLED),
    Extraction(repeats="saved", **FILLED),
    Distillation(temperature=2.0, repeats="saved", **FILLED),
]


def name(attack: Any) -> str:
    last = attack.budget or (attack.repeats if attack.asks_once else "")
    return f"{attack.kind}-{attack.labels}-T{attack.temperature:g}" + (f"-{last}" if last else "")


def spent(attack: Any, epochs: int) -> int:
    """The oracle calls of so many epochs: kept answers are paid at once, else each image of each full batch is one."""
    return attack.budget or (COUNT if attack.repeats == "saved" else epochs * (COUNT // 10) * 10)


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
    assert loot.oracle.calls == spent(attack, 3), "an oracle call was not counted"
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
        assert loot.oracle.calls == spent(attack, 3 - epoch)


def plain_student(
    attack: Any, loss: Callable[[Tensor, Tensor, Tensor], Tensor], *, epochs: int = 1, views: bool = True
) -> nn.Module:
    """The plain loop, which asks at each step: loss(student logits, victim logits, true labels), weight decay, SGD."""
    part, teacher = some(), victim().eval()
    if attack.budget:
        pick = torch.randperm(COUNT, generator=generator(attack.seed, "budget"))[: attack.budget]
        part = Part(part.images[pick], part.labels[pick])
    mean, std = channel_statistics(part.images)
    drawn = generator(attack.seed, "student")
    model = build(STUDENT, shape=SHAPE, classes=CLASSES, mean=mean, std=std, generator=drawn).train()
    weights = list(model.parameters())
    for epoch in range(epochs):
        order, shift = (generator(attack.seed, use, epoch) for use in ("order", "augment"))
        shuffled = torch.randperm(len(part), generator=order)
        for step in range(len(part) // 10):
            rows = shuffled[10 * step : 10 * step + 10]
            images = part.images[rows]
            images = (augment(images, flip=True, pad=1, generator=shift) if views else images).float() / 255
            with torch.no_grad():
                known = teacher(part.images[rows].float() / 255 if attack.budget else images)
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
        (Extraction(budget=20), 0, 1),
        (Extraction(labels="hard", budget=21, seed=3), 1, 0),
        (Distillation(temperature=2.0, alpha=0.4, budget=30), 0.6, 0.4),
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


def test_a_larger_budget_goes_on_where_a_smaller_one_ends() -> None:
    everything = some()
    sets = [transfer_set(everything, size, generator(3, "budget")) for size in (5, 20, COUNT)]
    for less, more in pairwise(sets):
        assert torch.equal(more.images[: len(less)], less.images)
        assert torch.equal(more.labels[: len(less)], less.labels)
    whole, again = (sorted(part.images.flatten(1).tolist()) for part in (everything, sets[-1]))
    assert whole == again, "an image was lost, or drawn twice"
    assert not torch.equal(transfer_set(everything, 20, generator(4, "budget")).images, sets[1].images)


class Listening(nn.Module):
    """A victim that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.asked = victim(), list[bytes]()

    def forward(self, images: Tensor) -> Tensor:
        self.asked += [(255 * image).round().byte().numpy().tobytes() for image in images]
        answers: Tensor = self.model(images)
        return answers


@pytest.mark.parametrize("attack", [case for case in CASES if case.budget], ids=name)
def test_a_thief_on_a_budget_asks_for_each_image_once_and_as_it_is(attack: Any) -> None:
    listening = Listening()
    steal(attack, loot_for(attack, listening))
    held = {image.numpy().tobytes() for image in some().images}
    assert len(listening.asked) == len({*listening.asked}) == attack.budget
    assert held >= {*listening.asked}


@pytest.mark.parametrize("repeats", ["counted", "saved"])
@pytest.mark.parametrize(
    ("attack", "taught", "asked"),
    [(Extraction(seed=4), 0, 1), (Extraction(labels="hard"), 1, 0), (Distillation(temperature=2.0), 0.3, 0.7)],
    ids=lambda value: name(value) if hasattr(value, "kind") else f"{value:g}",
)
def test_answers_that_repeat_are_worked_out_once(attack: Any, taught: float, asked: float, repeats: Any) -> None:
    recipe, listening = Recipe(epochs=3, batch_size=10, schedule=Step()), Listening()
    attack = replace(attack, student=STUDENT, recipe=recipe, repeats=repeats)
    loot = loot_for(attack, listening, views=False)
    stolen = steal(attack, loot)
    plain = plain_student(attack, formula(attack, taught, asked), epochs=3, views=False).state_dict()
    for key, value in plain.items():
        torch.testing.assert_close(stolen[key], value, rtol=1e-4, atol=5e-6)
    assert sorted(listening.asked) == sorted(image.numpy().tobytes() for image in some().images)
    assert loot.oracle.calls == (3 * 30 if repeats == "counted" else COUNT)


def test_what_is_paid_for_answers_changes_no_student() -> None:
    attack = Extraction(**FILLED)
    one = steal(attack, loot_for(attack, views=False))
    assert same(one, steal(replace(attack, repeats="saved")))
    assert not same(one, steal(attack)), "augmented views make no difference"


def test_an_augmented_view_is_asked_anew() -> None:
    attack, listening = Extraction(**FILLED), Listening()
    for flip, pad in ((True, 0), (False, 1)):
        listening.asked.clear()
        loot = replace(loot_for(attack, listening), flip=flip, pad=pad)
        steal(attack, loot)
        assert len(listening.asked) == loot.oracle.calls == 3 * 30
        assert len({*listening.asked}) > COUNT


def test_a_thief_on_a_budget_knows_no_other_true_label() -> None:
    attack, part = Distillation(budget=20, **FILLED), some()
    pick = torch.randperm(COUNT, generator=generator(attack.seed, "budget"))
    for changed, alike in ((pick[20:], True), (pick[:1], False)):
        labels = part.labels.clone()
        labels[changed] = (labels[changed] + 1) % CLASSES
        found = steal(attack, replace(loot_for(attack), images=Part(part.images, labels)))
        assert same(found, steal(attack)) == alike


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
    short = replace(attack, recipe=replace(RECIPE, bf16=True))
    rows, plain = list(short.run(loot_for(short))), list(attack.run(loot_for(attack)))
    assert rows[0].loss == pytest.approx(plain[0].loss, rel=0.05)
    assert {weight.dtype for weight in rows[-1].training.model.parameters()} == {torch.float32}


def test_the_defaults_are_the_published_ones() -> None:
    extraction, distillation = decode(Attack, "extraction"), decode(Attack, "distillation")
    assert (extraction.labels, extraction.temperature, extraction.source.kind) == ("soft", 1.0, "same")
    assert extraction.budget is distillation.budget is None
    assert extraction.repeats == distillation.repeats == "counted"
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
        ({"kind": "extraction", "budget": 0}, r"attack\.budget: 0 is not allowed"),
        (
            {"kind": "extraction", "repeats": "free"},
            r"attack\.repeats: 'free' is not allowed: must be 'counted' or 'sa",
        ),
        (
            {"kind": "extraction", "budget": 10, "repeats": "saved"},
            r"^attack\.repeats: 'saved' is not allowed: with a budget each image is asked once.*must be 'counted'$",
        ),
        ("piracy", r"attack: kind 'piracy' is unknown; allowed: 'extraction', 'distillation'"),
    ],
)
def test_wrong_values_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, tree, "attack")
