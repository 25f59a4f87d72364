"""Guided extraction: the weight of two losses, the corrected target, and labels that are known of a share alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.attacks import Attack, Extraction, GuidedExtraction
from mwm.attacks.access import TargetFacts
from mwm.attacks.extraction.guided_extraction import UNKNOWN, corrected_target, min_norm_weight
from mwm.attacks.sequence import AttackedNetwork
from mwm.config.spec import decode
from mwm.data.datasets import Digits
from mwm.data.splits import LabeledImages, SplitSizes
from mwm.training.evaluation import predict_logits
from mwm.training.state import TrainState
from mwm.training.step import Batch
from tests.helpers.stealing import CLASSES, COUNT, FILLED, RECIPE, STUDENT, access_for, same, some, steal, victim


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.01, 100))
def test_the_weight_makes_the_sum_shortest(seed: int, size: int, scale: float) -> None:
    drawn = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, size, generator=drawn, dtype=torch.float64) * torch.tensor([[1.0], [scale]])
    shares = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None]
    lengths = (shares * first + (1 - shares) * second).norm(dim=1)
    weight = min_norm_weight(first, second)
    assert 0 <= weight <= 1
    reached = (weight * first + (1 - weight) * second).norm()
    assert reached <= lengths.min() + 1e-12
    assert weight.item() == pytest.approx(shares[lengths.argmin()].item(), abs=1e-4)


def test_of_the_same_two_vectors_each_counts_half() -> None:
    assert min_norm_weight(torch.ones(3), torch.ones(3)).item() == 0.5


def plain_target(answers: list[list[float]], truth: list[int], beta: float) -> list[list[float]]:
    """The target, image by image: what the public code has, with recovered logits, divided by its sum."""
    recovered = [[value - sum(row) / len(row) for value in row] for row in answers]
    rows = []
    for said, label in zip(answers, truth, strict=True):
        largest = max(1.0, *(row[label] for row in recovered))
        blended = [(1 - beta) * math.exp(value) for value in said]
        blended[label] += beta * largest
        rows.append([value / sum(blended) for value in blended])
    return rows


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_target_is_that_of_a_plain_loop(seed: int, beta: float) -> None:
    drawn = torch.Generator().manual_seed(seed)
    answers = (4 * torch.randn(7, CLASSES, generator=drawn, dtype=torch.float64)).log_softmax(1)
    truth = torch.randint(CLASSES, (7,), generator=drawn)
    found = corrected_target(answers, truth, beta=beta)
    torch.testing.assert_close(found, torch.tensor(plain_target(answers.tolist(), truth.tolist(), beta)).double())
    torch.testing.assert_close(found.sum(1), torch.ones(7).double())


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_losses_are_those_of_a_plain_loop(temperature: float) -> None:
    attack, drawn = GuidedExtraction(temperature=temperature), torch.Generator().manual_seed(2)
    answers, logits = (3 * torch.randn(2, 9, CLASSES, generator=drawn, dtype=torch.float64)).unbind()
    answers, truth = answers.log_softmax(1), torch.tensor([0, 1, 2, 3, UNKNOWN, UNKNOWN, 0, 1, 2])
    targets = plain_target(answers.tolist(), truth.clamp(min=0).tolist(), attack.beta)
    learnt = far = corrected = 0.0
    for row, label in enumerate(truth.tolist()):
        p, q = ((one[row] / temperature).softmax(0).tolist() for one in (answers, logits))
        learnt += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        if label != UNKNOWN and answers[row].argmax().item() != label:
            far += sum(a * math.log(a / b) for a, b in zip(targets[row], q, strict=True))
            corrected += 1
    assert 0 < corrected < 7
    found = attack.loss(answers, logits, truth)
    assert found.tolist() == pytest.approx([learnt / 9, far / 9], rel=1e-9)


def known(attack: GuidedExtraction) -> Tensor:
    """Of which of the attacker's images the label is known (bool n)."""
    return attack.transfer_images(access_for(attack)).labels != UNKNOWN


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_labels_are_known_of_a_share(share: float) -> None:
    attack = GuidedExtraction(labeled_share=share, **FILLED)
    which = known(attack)
    assert which.sum() == round(share * COUNT)
    assert torch.equal(attack.transfer_images(access_for(attack)).labels[which], some().labels[which])
    assert which[known(replace(attack, labeled_share=0.1))].all(), "a larger share forgets labels of a smaller one"


@pytest.mark.parametrize("budget", [None, COUNT])
def test_no_other_label_matters(budget: int | None) -> None:
    attack = GuidedExtraction(labeled_share=0.5, query_budget=budget, **FILLED)
    access, everything = access_for(attack), GuidedExtraction(labeled_share=1.0, **FILLED)
    held = attack.transfer_images(access)
    unseen = {image.numpy().tobytes() for image in held.images[held.labels == UNKNOWN]}
    hidden = torch.tensor([image.numpy().tobytes() in unseen for image in access.images.images])
    moved = torch.where(hidden, (access.images.labels + 1) % CLASSES, access.images.labels)
    others = LabeledImages(access.images.images, moved)
    assert same(steal(attack), steal(attack, replace(access, images=others)))
    everywhere = replace(access_for(everything), images=others)
    assert not same(steal(everything), steal(everything, everywhere))


def test_where_nothing_is_contradicted_it_is_distillation() -> None:
    attack = GuidedExtraction(labeled_share=1.0, query_budget=COUNT, **FILLED)
    access, images = access_for(attack), some().images
    named = LabeledImages(images, predict_logits(victim(), images).argmax(1))
    plain = steal(Extraction(temperature=20.0, query_budget=COUNT, **FILLED))
    for name, value in steal(attack, replace(access, images=named)).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", [9, 10])
@pytest.mark.parametrize("normalization", ["none", "l2", "loss", "loss+"])
def test_a_step_goes_along_the_weighted_gradients(normalization: Any, seed: int) -> None:
    """Each of the two gradients by itself, divided as is said, and the shortest sum of a fine grid."""
    drawn = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)).double()
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=drawn, dtype=torch.float64)
    attack = GuidedExtraction(normalization=normalization, labeled_share=1.0, temperature=2.0, **FILLED)
    answers = (2 * torch.randn(10, CLASSES, generator=drawn, dtype=torch.float64)).log_softmax(1)
    batch = Batch(torch.rand(10, 1, 6, 6, generator=drawn).double(), some().labels[:10], torch.arange(10))
    lesson = some(), lambda _: answers
    objective = attack.objective(lesson, access_for(attack), TrainState(model, RECIPE))
    weights = list(model.parameters())
    found = torch.autograd.grad(objective(model, batch, drawn), weights)
    slopes, divided = [], []
    for place in (0, 1):
        loss = attack.loss(answers, model(batch.images), batch.labels)[place]
        slope = torch.cat([one.flatten() for one in torch.autograd.grad(loss, weights)])
        divisor = {"none": 1.0, "l2": slope.norm(), "loss": loss.item(), "loss+": loss.item() * slope.norm()}[
            normalization
        ]
        slopes.append(slope)
        divided.append(slope / float(divisor))
    shares = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    dots = divided[0] @ divided[0], divided[0] @ divided[1], divided[1] @ divided[1]
    lengths = shares**2 * dots[0] + 2 * shares * (1 - shares) * dots[1] + (1 - shares) ** 2 * dots[2]
    share = shares[lengths.argmin()]
    assert 0.01 < share < 0.99
    expected = share * slopes[0] + (1 - share) * slopes[1]
    torch.testing.assert_close(torch.cat([one.flatten() for one in found]), expected.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"labels": "hard"}, r"^attack\.labels: 'hard' is not allowed"),
        ({"labeled_share": 0.0}, r"^attack\.labeled_share: 0.0 is not allowed"),
        ({"source": "digits"}, r"^attack\.source: 'digits' is not allowed: true labels need victim_data or disjoint$"),
        (
            {"own_labels": "drop", "query_budget": 9},
            r"^attack\.own_labels: 'drop' is not allowed: few true labels are known",
        ),
        ({"recipe": {"compile": True}}, r"^attack\.recipe\.compile: true is not allowed: compiled code"),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "guided_extraction", **how}, "attack")


def test_a_share_of_less_than_one_image_is_refused() -> None:
    target = AttackedNetwork(data=Digits(), split=SplitSizes(), model=STUDENT, recipe=RECIPE)
    facts = TargetFacts(path="attacks.0", victim=target, datasets={})
    GuidedExtraction(query_budget=20).validate(facts)
    with pytest.raises(ValueError, match=r"^attacks\.0\.labeled_share: 0.01 is not allowed: of 20 images none is lab"):
        GuidedExtraction(query_budget=20, labeled_share=0.01).validate(facts)


def test_a_student_is_not_compiled_because_its_victim_was() -> None:
    compiled = replace(RECIPE, compile=True)
    target = AttackedNetwork(data=Digits(), split=SplitSizes(), model=STUDENT, recipe=compiled)
    assert GuidedExtraction().resolve(target).recipe == RECIPE
