"""Extraction by MixMatch: its loss against a plain transcription, its parts, and what batch normalisation sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import Attack, MixMatch
from mwm.attacks.access import TargetFacts
from mwm.attacks.extraction.mixmatch import guessed, interleaved, interleaved_logits, sharpened
from mwm.attacks.sequence import AttackedNetwork
from mwm.attacks.sources import left_by_transfer, transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.datasets import Dataset, Digits
from mwm.data.images import Augmentation, augment
from mwm.data.splits import LabeledImages, SplitSizes, on_host
from mwm.training.state import TrainState
from mwm.training.step import Batch
from tests.helpers.stealing import CLASSES, COUNT, FILLED, RECIPE, STUDENT, access_for, same, some, steal, victim

BUDGET, SIZE = 20, 10
SHIFTED = Augmentation(flip=True, pad=1)


class Linear(nn.Module):
    """A network in float64 in which every image is answered by itself."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(6)
        self.weight = nn.Parameter(torch.randn(CLASSES, 36, generator=drawn, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return images.double().flatten(1) @ self.weight.T


def batch() -> Batch:
    drawn = torch.Generator().manual_seed(8)
    return Batch(torch.rand(SIZE, 1, 6, 6, generator=drawn), torch.zeros(SIZE).long(), torch.arange(SIZE))


def answers(labels: str) -> Tensor:
    drawn = torch.Generator().manual_seed(9)
    said = torch.randn(SIZE, CLASSES, generator=drawn).log_softmax(1)
    return said if labels == "soft" else said.argmax(1)


def step(attack: MixMatch, model: nn.Module, epoch: int = 0) -> Any:
    """A function that gives the loss of the next step, whose chances are always the same."""
    access = access_for(attack)
    training = TrainState(model, RECIPE)
    training.epoch = epoch
    lesson = attack.transfer_images(access), lambda _: answers(attack.labels)
    objective = attack.objective(lesson, access, training)
    return lambda: objective(model, batch(), torch.Generator().manual_seed(3))


def plain_parts(attack: MixMatch, model: nn.Module) -> tuple[float, float]:
    """The two losses of a step, image by image: cross-entropy of what was asked, squared distance of the others."""
    draw = torch.Generator().manual_seed(3)
    pool = left_by_transfer(some(), BUDGET, make_generator(attack.seed, "budget")).images
    rows = torch.randint(len(pool), (SIZE,), generator=draw)
    views = [augment(pool[rows], SHIFTED, draw).float() / 255 for _ in range(attack.guess_views)]
    order = torch.randperm((1 + attack.guess_views) * SIZE, generator=draw).tolist()
    alphas = torch.full((len(order), 2), attack.mixup_alpha)
    shares = torch._sample_dirichlet(alphas, draw)[:, 0].double().tolist()
    labels: list[list[float]] = []
    for said in answers(attack.labels):
        labels.append(said.double().exp().tolist() if attack.labels == "soft" else [float(said == c) for c in range(4)])
    for image in range(SIZE):
        said = sum(model(view[image : image + 1].double()).softmax(1)[0] for view in views) / len(views)
        powers = [value ** (1 / attack.temperature) for value in said.tolist()]
        labels.append([value / sum(powers) for value in powers])
    labels += labels[SIZE:] * (attack.guess_views - 1)
    images = torch.cat([batch().images, *views]).double()
    asked = rest = 0.0
    for place, (other, drawn) in enumerate(zip(order, shares, strict=True)):
        much = max(drawn, 1 - drawn)
        shown = much * images[place] + (1 - much) * images[other]
        told = [much * a + (1 - much) * b for a, b in zip(labels[place], labels[other], strict=True)]
        chances = model(shown[None]).softmax(1)[0].tolist()
        if place < SIZE:
            asked -= sum(p * torch.tensor(q).log().item() for p, q in zip(told, chances, strict=True)) / SIZE
        else:
            distance = sum((p - q) ** 2 for p, q in zip(told, chances, strict=True))
            rest += distance / CLASSES / (attack.guess_views * SIZE)
    return asked, rest


@pytest.mark.parametrize(
    "how", [{}, {"labels": "hard", "guess_views": 3}, {"mixup_alpha": 0.2, "temperature": 0.8, "seed": 4}]
)
@torch.no_grad()
def test_the_loss_is_that_of_a_plain_loop(how: dict[str, Any]) -> None:
    attack = MixMatch(query_budget=BUDGET, rampup=0.0, **FILLED, **how)
    asked, rest = plain_parts(attack, Linear())
    first = step(attack, Linear())
    assert first().item() == pytest.approx(asked, rel=1e-5), "the second loss counts from the second step on"
    assert first().item() == pytest.approx(asked + 75 * rest, rel=1e-5)
    assert step(replace(attack, weight=3.0), Linear(), epoch=1)().item() == pytest.approx(asked + 3 * rest, rel=1e-5)


@torch.no_grad()
def test_the_weight_rises_in_a_share_of_all_steps() -> None:
    """Three epochs of two steps; half of them is three steps."""
    attack = MixMatch(query_budget=BUDGET, rampup=0.5, **FILLED)
    begun, resumed = step(attack, Linear()), step(attack, Linear(), epoch=1)
    losses = [begun().item() for _ in range(6)]
    least, most = losses[0], losses[-1]
    shares = [(loss - least) / (most - least) for loss in losses]
    assert shares == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1], rel=1e-5)
    assert [resumed().item() for _ in range(4)] == losses[2:]


def test_probabilities_are_sharpened() -> None:
    given = torch.tensor([[0.5, 0.3, 0.2, 0.0]], dtype=torch.float64)
    total = 0.25 + 0.09 + 0.04
    torch.testing.assert_close(sharpened(given, 0.5), torch.tensor([[0.25, 0.09, 0.04, 0.0]]).double() / total)
    torch.testing.assert_close(sharpened(given, 1.0), given)


def test_guesses_are_the_sharpened_mean_of_views_and_teach_nothing() -> None:
    model = victim().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    views = [some(8, seed).images / 255 for seed in (1, 2)]
    guess = guessed(model, views, temperature=0.5)
    said = torch.stack([torch.softmax(model(view), 1) for view in views]).mean(0)
    torch.testing.assert_close(guess, (said**2 / (said**2).sum(1, keepdim=True)).detach())
    assert not guess.requires_grad
    model.load_state_dict(before)
    guessed(model, views, temperature=0.5)
    assert same(model.state_dict(), before), "running statistics were moved"


@pytest.mark.parametrize("size", [9, 10, 11])
def test_interleaving_gives_the_first_batch_a_part_of_each(size: int) -> None:
    batches = [torch.full((size,), place) for place in range(3)]
    mixed = interleaved(batches)
    assert {*mixed[0].tolist()} == {0, 1, 2}
    assert [{*one.tolist()} for one in mixed[1:]] == [{0, 1}, {0, 2}]
    for one, again in zip(batches, interleaved(mixed), strict=True):
        assert torch.equal(one, again)


def test_the_first_interleaved_batch_alone_moves_running_statistics() -> None:
    model, plain = victim().train(), victim().train()
    batches = [some(9, seed).images / 255 for seed in (1, 2, 3)]
    found = interleaved_logits(model, batches)
    mixed = interleaved(batches)
    expected = [plain(mixed[0])]
    statistics = {name: value.clone() for name, value in plain.state_dict().items()}
    expected += [plain(one) for one in mixed[1:]]
    assert same(model.state_dict(), statistics)
    for one, other in zip(found, interleaved(expected), strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_not_asked_is_all_the_rest() -> None:
    asked, rest = (
        cut(some(), BUDGET, make_generator(0, "budget")).images.flatten(1).tolist()
        for cut in (transfer_set, left_by_transfer)
    )
    assert sorted(asked + rest) == sorted(some().images.flatten(1).tolist())
    assert len(rest) == COUNT - BUDGET


def test_images_that_are_not_asked_are_learnt_from() -> None:
    attack = MixMatch(query_budget=BUDGET, **FILLED)
    access = access_for(attack)
    asked = transfer_set(some(), BUDGET, make_generator(attack.seed, "budget"))
    kept = {image.numpy().tobytes() for image in asked.images}
    other = torch.tensor([image.numpy().tobytes() not in kept for image in access.images.images])
    images = torch.where(other[:, None, None, None], 255 - access.images.images, access.images.images)
    changed = replace(access, images=LabeledImages(images, access.images.labels))
    assert not same(steal(attack), steal(attack, changed))


def test_what_needs_no_answer_costs_no_call() -> None:
    attack = MixMatch(query_budget=BUDGET, **FILLED)
    access = access_for(attack)
    steal(attack, access)
    assert access.calls == BUDGET


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, r"^attack\.query_budget: is missing"),
        ({"query_budget": 9, "cache_answers": True}, r"^attack\.cache_answers: true is not allowed"),
        (
            {"query_budget": 9, "augment": False},
            r"^attack\.augment: false is not allowed with guess_views: 2: all views .*; allowed with guess_views: 1$",
        ),
        ({"query_budget": 9, "temperature": 0.0}, r"^attack\.temperature: 0.0 is not allowed"),
        ({"query_budget": 9, "rampup": 1.5}, r"^attack\.rampup: 1.5 is not allowed"),
        ({"query_budget": 9, "mixup_alpha": 0.0}, r"^attack\.mixup_alpha: 0.0 is not allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "mixmatch", **how}, "attack")


def test_a_budget_that_leaves_nothing_is_refused() -> None:
    images, labels = some().images.numpy(), some().labels.numpy()
    held = Dataset(x_train=images, y_train=labels, x_test=images, y_test=labels, classes=CLASSES, digest="0")
    data, sizes = Digits(), SplitSizes(validation=2, queries=2)
    target = AttackedNetwork(data=data, split=sizes, model=STUDENT, recipe=RECIPE)
    facts = TargetFacts(path="attacks.0", victim=target, datasets={data: held})
    MixMatch(query_budget=COUNT - 5).validate(facts)
    with pytest.raises(ValueError, match=r"^attacks\.0\.query_budget: 30 is not allowed: the attacker has 30 im"):
        MixMatch(query_budget=COUNT - 4).validate(facts)


def test_guesses_of_views_that_are_all_the_same_are_refused() -> None:
    plain = AttackedNetwork(data=Digits(flip=False, pad=0), split=SplitSizes(), model=STUDENT, recipe=RECIPE)
    facts = TargetFacts(path="attacks.0", victim=plain, datasets={})
    with pytest.raises(
        ValueError, match=r"^attacks\.0\.guess_views: 2 is not allowed: victim\.data\.flip is false and"
    ):
        MixMatch(query_budget=BUDGET).validate(facts)
    MixMatch(query_budget=BUDGET, guess_views=1).validate(facts)
    MixMatch(query_budget=BUDGET, guess_views=1, augment=False).validate(facts)


def test_a_recorded_step_reads_no_images_of_the_host() -> None:
    attack = MixMatch(query_budget=BUDGET, **FILLED)
    access, training = access_for(attack), TrainState(Linear(), RECIPE)
    held = on_host(some().images.numpy(), some().labels.numpy(), device="cpu")
    training.recipe = replace(RECIPE, cuda_graph=True)
    lesson = attack.transfer_images(access), lambda _: answers("soft")
    with pytest.raises(ValueError, match=r"^recipe\.cuda_graph: true is not allowed: images that are not asked lie on"):
        attack.objective(lesson, replace(access, images=held), training)
