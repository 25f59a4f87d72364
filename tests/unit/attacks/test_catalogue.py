"""Attacks: promises of the whole catalogue, the losses against plain loops, budgets that are kept to."""

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
from mwm.attacks.extraction.losses import distillation_kl
from mwm.config.spec import decode
from mwm.data.splits import LabeledImages
from mwm.oracle.oracle import Oracle, log_probabilities
from mwm.storage.store import Store
from mwm.training.recipe import MultiStep, Recipe
from tests.helpers.stealing import (
    CLASSES,
    FILLED,
    STUDENT,
    access_for,
    formula,
    name,
    plain_student,
    same,
    some,
    steal,
    victim,
)
from tests.unit.attacks.cases import CASES, DRAW_NOTHING


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images every network that an oracle stands for is shown from now on, a number for each time.

    A hook of each network counts them: the oracle's own count is not looked at.
    """
    seen: list[int] = []
    begin = Oracle.__init__

    def listening(self: Oracle, model: nn.Module, *given: Any, **named: Any) -> None:
        model.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
        begin(self, model, *given, **named)

    monkeypatch.setattr(Oracle, "__init__", listening)
    return seen


def relabelled(attack: Any) -> Any:
    access = access_for(attack)
    return replace(access, images=LabeledImages(access.images.images, (access.images.labels + 1) % CLASSES))


def test_the_whole_catalogue_is_under_contract() -> None:
    assert {type(case) for case in CASES} == set(get_args(get_args(Attack)[0]))
    assert {case.labels for case in CASES if isinstance(case, Extraction)} == {"soft", "hard"}


@pytest.mark.parametrize("attack", CASES, ids=name)
def test_an_attack_keeps_its_promises(attack: Any, asked: list[int]) -> None:
    model = victim()
    before, access = deepcopy(model.state_dict()), access_for(attack, model)
    rows = list(attack.run(access))
    counted = sum(asked) if asked else None
    first = rows[-1].training.model.state_dict()
    assert same(model.state_dict(), before), "the victim was changed"
    assert all(weight.grad is None for weight in model.parameters()), "gradients reached the victim"
    assert same(first, steal(attack)), "same seed, different student"
    drawn = not same(first, steal(replace(attack, seed=attack.seed + 1)))
    assert drawn != (attack.kind in DRAW_NOTHING), "another seed, the same student"
    assert access.calls == counted, "calls are not what networks were asked"
    assert [row.epoch for row in rows] == [*range(1, attack.epochs() + 1)]
    assert {row.training.epochs for row in rows} == {attack.epochs()}


def closed(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network as a function that lets no gradient through."""
    return lambda images: model(images.detach().clone()).detach()


BLACK_BOXES = [one for one in CASES if one.threat_model().access == "black box" and one.kind != "sequence"]
"""Of a sequence each step is granted what it needs."""


@pytest.mark.parametrize("attack", BLACK_BOXES, ids=name)
def test_a_black_box_is_closed(attack: Any) -> None:
    """In the place of the network stands a function: whoever looks for weights, layers or gradients finds none."""
    access = access_for(attack)
    for oracle in getattr(access.oracle, "_both", (access.oracle,)):
        oracle._model = closed(oracle._model)
    assert not access.others, "the attacker holds somebody's network"
    assert same(steal(attack, access), steal(attack)), "the network itself was used"


@pytest.mark.parametrize("attack", CASES, ids=name)
def test_an_attack_goes_on_where_it_was_interrupted(attack: Any, tmp_path: Path) -> None:
    store, whole, undisturbed = Store(tmp_path), [], access_for(attack)
    for row in attack.run(undisturbed):
        whole.append((row.epoch, row.loss, row.val_acc))
        store.save_checkpoint(f"after-{row.epoch}", row.training.state() | {"oracle_calls": undisturbed.calls})
    for epoch in range(1, attack.epochs()):
        start = store.checkpoint(f"after-{epoch}")
        assert start is not None
        access = access_for(attack, calls=start["oracle_calls"], start=start)
        rows = list(attack.run(access))
        assert [(row.epoch, row.loss, row.val_acc) for row in rows] == whole[epoch:]
        assert same(rows[-1].training.model.state_dict(), row.training.model.state_dict())
        assert access.calls == undisturbed.calls


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
        (Extraction(query_budget=20), 0, 1),
        (Extraction(labels="hard", query_budget=21, seed=3), 1, 0),
        (Distillation(temperature=2.0, alpha=0.4, query_budget=30), 0.6, 0.4),
    ],
    ids=lambda value: name(value) if hasattr(value, "kind") else f"{value:g}",
)
def test_students_learn_by_the_formula(attack: Any, taught: float, asked: float) -> None:
    recipe = Recipe(epochs=1, batch_size=10, schedule=MultiStep())
    stolen = steal(replace(attack, student=STUDENT, recipe=recipe))
    plain = plain_student(attack, formula(attack, taught, asked)).state_dict()
    for key, value in plain.items():
        torch.testing.assert_close(stolen[key], value, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("attack", CASES, ids=name)
def test_true_labels_matter_to_those_alone_that_are_said_to_know_them(attack: Any) -> None:
    unmoved = same(steal(attack), steal(attack, relabelled(attack)))
    assert unmoved != attack.knows_labels()


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
        assert same(steal(attack), steal(attack, access_for(attack, Sharper(victim())))) == alike


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 6), st.floats(0.2, 10))
def test_the_divergence_is_that_of_a_plain_loop(seed: int, n: int, classes: int, temperature: float) -> None:
    drawn = torch.Generator().manual_seed(seed)
    teacher, student = (3 * torch.randn(2, n, classes, generator=drawn, dtype=torch.float64)).unbind()
    total = 0.0
    for row, guess in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = ([math.exp(z / temperature) for z in logits] for logits in (row, guess))
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    found = distillation_kl(log_probabilities(teacher), student, temperature)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(total / n, rel=1e-9, abs=1e-12)
    assert distillation_kl(log_probabilities(teacher), teacher, temperature).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_divergence_is_in_float32_under_bf16(temperature: float) -> None:
    teacher, student, images = victim().eval(), victim().train(), some().images / 255
    with torch.autocast("cpu", torch.bfloat16):
        answers, short = Oracle(teacher, "soft")(images), student(images)
        found = distillation_kl(answers, short, temperature)
    assert (answers.dtype, short.dtype, found.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    exact = distillation_kl(answers.double(), short.detach().double(), temperature).item()
    assert found.item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("attack", [case for case in CASES if case.training_recipe()], ids=name)
def test_every_attack_that_trains_runs_in_bf16(attack: Any) -> None:
    short = replace(attack, recipe=replace(attack.recipe, bf16=True))
    rows, plain = list(short.run(access_for(short))), list(attack.run(access_for(attack)))
    assert rows[0].loss == pytest.approx(plain[0].loss, rel=0.05)
    assert {weight.dtype for weight in rows[-1].training.model.parameters()} == {torch.float32}


def test_the_defaults_are_the_published_ones() -> None:
    extraction, distillation = decode(Attack, "extraction"), decode(Attack, "distillation")
    assert (extraction.labels, extraction.temperature, extraction.source.kind) == ("soft", 1.0, "victim_data")
    assert extraction.query_budget is distillation.query_budget is None
    assert not extraction.cache_answers
    assert not distillation.cache_answers
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
        ({"kind": "extraction", "query_budget": 0}, r"attack\.query_budget: 0 is not allowed"),
        (
            {"kind": "extraction", "cache_answers": "free"},
            r"attack\.cache_answers: 'free' is not allowed: must be true or false",
        ),
        (
            {"kind": "extraction", "query_budget": 10, "cache_answers": True},
            r"^attack\.cache_answers: true is not allowed: with a query budget each image is asked once.*be false$",
        ),
        (
            "piracy",
            r"attack: kind 'piracy' is unknown; allowed: 'extraction', 'distillation', .*'fine_tuning'",
        ),
    ],
)
def test_wrong_values_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, tree, "attack")
