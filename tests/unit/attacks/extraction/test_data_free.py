"""Extraction without images: the generator, what is asked and what it costs, and that a student learns from it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import Attack, Dfme, Disguide
from mwm.attacks.access import TargetFacts
from mwm.attacks.extraction.answers import recovered_logits
from mwm.attacks.extraction.generator import ImageGenerator, Memory, as_images, as_pictures, to_bytes
from mwm.attacks.sequence import AttackedNetwork
from mwm.config.spec import decode
from mwm.data.datasets import Dataset, Digits
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages, SplitSizes
from mwm.models.answers import LOG_ZERO, TopK
from mwm.models.build import build_model
from mwm.models.networks import Cnn
from mwm.training.evaluation import predict_logits
from mwm.training.loop import DivergedError
from tests.helpers.records import arrays
from tests.helpers.stealing import CLASSES, RECIPE, SHAPE, STUDENT, access_for, forwards, same, some, steal, victim
from tests.unit.attacks.extraction.cases import GAME

GAMES: list[Any] = [
    Dfme(query_budget=8 * 7 * 3 + 55, epoch_iterations=2, **GAME),
    Dfme(query_budget=8 * 8 * 2, generator_steps=2, directions=2, student_steps=2, **GAME),
    Disguide(query_budget=50, epoch_iterations=4, **GAME),
    Disguide(labels="hard", query_budget=64, student_steps=3, **GAME),
]
COSTS = [(3, 8 * 7), (2, 8 * 8), (6, 8), (2, 8 * 3)]
"""Iterations of each game, and the calls of one."""


class Nobody:
    """Images that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the attacker's images were looked at: {name}")


@pytest.mark.parametrize(("attack", "cost"), [*zip(GAMES, COSTS, strict=True)])
def test_the_budget_pays_for_whole_iterations(attack: Any, cost: tuple[int, int]) -> None:
    iterations, calls = cost
    assert (attack.iterations, attack.calls_per_iteration) == cost
    model = victim()
    seen, access = forwards(model), access_for(attack, model)
    spent = [access.calls for _ in attack.run(access)]
    whole = [min(place * attack.epoch_iterations, iterations) * calls for place in range(1, attack.epochs() + 1)]
    assert spent == whole
    assert sum(seen) == access.calls == iterations * calls <= attack.query_budget
    assert attack.query_budget - access.calls < calls, "one more iteration could be paid for"


@pytest.mark.parametrize("attack", GAMES, ids=lambda attack: attack.kind)
def test_no_image_of_the_attacker_is_read(attack: Any) -> None:
    assert attack.threat_model().images == "none"
    access = access_for(attack)
    hidden = replace(access, images=LabeledImages(Nobody(), Nobody()))  # type: ignore[arg-type]
    assert same(steal(attack), steal(attack, hidden))


class Listening(nn.Module):
    """A victim that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.asked = victim(), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(images)
        answers: Tensor = self.model(images)
        return answers


@pytest.mark.parametrize(
    ("attack", "exact"),
    [(Disguide(query_budget=24, **GAME), True), (Dfme(query_budget=56, rounded=True, **GAME), True), (GAMES[0], False)],
)
def test_pictures_have_8_bits_unless_floats_are_asked(attack: Any, exact: bool) -> None:
    listening = Listening()
    steal(attack, access_for(attack, listening))
    asked = torch.cat(listening.asked)
    assert asked.min() >= 0
    assert asked.max() <= 1
    assert torch.equal((255 * asked).round() / 255, asked) == exact


@pytest.mark.parametrize("attack", GAMES, ids=lambda attack: attack.kind)
def test_students_are_normalised_without_knowing_an_image(attack: Any) -> None:
    access = access_for(attack)
    network: Any = attack.network(access)
    assert network.normalise.mean.flatten().tolist() == network.normalise.std.flatten().tolist() == [0.5]
    for row in attack.run(access):
        assert row.training.model.normalise.mean.flatten().tolist() == [0.5]


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 32, 32), (1, 28, 28), (2, 7, 5)])
def test_a_generator_makes_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    made = ImageGenerator(11, 4, shape)(torch.randn(9, 11))
    assert made.shape == (9, *shape)
    torch.testing.assert_close(made.mean((0, 2, 3)), torch.zeros(shape[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.var((0, 2, 3), unbiased=False), torch.ones(shape[0]), atol=1e-2, rtol=0)
    images = as_images(made)
    torch.testing.assert_close(images, (torch.tanh(made) + 1) / 2)
    assert (as_pictures(made) - images).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(to_bytes(made).float() / 255, as_pictures(made))


def test_logits_are_recovered_but_for_a_constant() -> None:
    logits = 5 * torch.randn(20, CLASSES, dtype=torch.float64)
    found = recovered_logits(logits.log_softmax(1))
    torch.testing.assert_close(found, logits - logits.mean(1, keepdim=True))
    cut = torch.tensor([[0.5, 0.5, 0.0, 0.0]], dtype=torch.float64).log().clamp(min=LOG_ZERO)
    half = math.log(0.5 / 1e-7) / 2
    torch.testing.assert_close(recovered_logits(cut), torch.tensor([[half, half, -half, -half]]).double())


def test_students_lose_by_each_image() -> None:
    logits, answers = torch.randn(2, 7, CLASSES).unbind()
    recovered = [[value - sum(row) / CLASSES for value in row] for row in answers.log_softmax(1).tolist()]
    apart = [
        sum(abs(a - b) for a, b in zip(one, two, strict=True)) / CLASSES
        for one, two in zip(recovered, logits.tolist(), strict=True)
    ]
    attack: Any = Disguide(**GAME)
    assert attack.student_loss(answers.log_softmax(1), logits).tolist() == pytest.approx(apart, rel=1e-5)
    named = answers.argmax(1)
    hard = [-chances[label].item() for chances, label in zip(logits.log_softmax(1), named.tolist(), strict=True)]
    assert replace(attack, labels="hard").student_loss(named, logits).tolist() == pytest.approx(hard, rel=1e-5)


@pytest.mark.parametrize("kind", [Dfme, Disguide])
def test_rates_fall_at_their_shares_of_all_iterations(kind: Any) -> None:
    calls = kind(**GAME).calls_per_iteration
    attack = kind(query_budget=10 * calls, epoch_iterations=1, milestones=(0.2, 0.7), factor=0.5, **GAME)
    rates = [row.lr for row in attack.run(access_for(attack))]
    assert rates == pytest.approx([attack.student_lr * share for share in [1] * 2 + [0.5] * 5 + [0.25] * 3])


def test_the_memory_keeps_the_last_images_with_their_answers() -> None:
    memory, draw = Memory(5), torch.Generator().manual_seed(0)
    for start in (0, 3, 6):
        rows = torch.arange(start, start + 3)
        memory.add(rows.to(torch.uint8)[:, None, None, None], 10 * rows)
    images, answers = memory.sample(400, draw)
    assert torch.equal((255 * images.flatten()).round().long() * 10, answers)
    assert {*answers.tolist()} == {40, 50, 60, 70, 80}
    again = Memory(5)
    again.restore(memory.state(), torch.device("cpu"))
    for one, other in zip(again.sample(9, draw.manual_seed(1)), memory.sample(9, draw.manual_seed(1)), strict=True):
        assert torch.equal(one, other)
    for kept in (memory, again):
        kept.add(torch.full((1, 1, 1, 1), 9, dtype=torch.uint8), torch.tensor([90]))
        assert {*kept.sample(400, draw)[1].tolist()} == {50, 60, 70, 80, 90}


def taught() -> tuple[nn.Module, LabeledImages]:
    """A victim that tells four patterns apart, and images of them that it has not seen."""
    made = arrays(600, (*SHAPE[1:], 1), CLASSES, 0)
    images, labels = torch.tensor(made["x_train"]).permute(0, 3, 1, 2).contiguous(), torch.tensor(made["y_train"])
    drawn = torch.Generator().manual_seed(1)
    record = Cnn(width=8, depth=1)
    model = build_model(record, shape=SHAPE, classes=CLASSES, mean=[0.5], std=[0.25], generator=drawn)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        for rows in torch.split(torch.randperm(400, generator=drawn), 40):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows] / 255), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model, LabeledImages(images[400:], labels[400:])


LITTLE: dict[str, Any] = {
    **{"batch_size": 32, "noise_size": 16, "generator_width": 8, "generator_lr": 1e-3},
    "student": Cnn(width=8, depth=1),
}


@pytest.mark.parametrize(
    "attack",
    [
        Disguide(labels="hard", query_budget=32 * 200, **LITTLE),
        Disguide(query_budget=32 * 300, **LITTLE),
        Dfme(query_budget=32 * 7 * 50, **LITTLE),
    ],
    ids=["labels", "probabilities", "differences"],
)
def test_a_student_learns_from_answers_to_made_images_alone(attack: Any) -> None:
    """It agrees with the victim on images that neither it nor the generator has ever seen. By chance: .25, ± .03."""
    model, unseen = taught()
    named = predict_logits(model, unseen.images).argmax(1)
    assert (named == unseen.labels).double().mean() > 0.95
    common: dict[str, Any] = {"images": some(), "classes": CLASSES, "augmentation": Augmentation(), "seed": 0}
    access = attack.grant(model, calls=0, validation=unseen, **common)
    *_, last = attack.run(access)
    agreement = (predict_logits(last.training.model, unseen.images).argmax(1) == named).double().mean()
    assert agreement > 0.4


@pytest.mark.parametrize("kind", [Dfme, Disguide])
def test_answers_that_are_cut_are_learnt_as_they_are(kind: Any) -> None:
    """The two likeliest classes alone are told: losses stay finite."""
    attack = kind(query_budget=8 * 7 * 4, oracle=(TopK(k=2),), **GAME)
    losses = [row.loss for row in attack.run(access_for(attack))]
    assert all(0 < loss < 100 for loss in losses)


def test_a_game_that_runs_away_is_told() -> None:
    attack = Dfme(query_budget=8 * 7 * 20, student_lr=1e20, **GAME)
    with pytest.raises(DivergedError, match=r"not finite in epoch 1: lower student_lr$"):
        steal(attack)


@pytest.mark.parametrize("kind", ["dfme", "disguide"])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            {"source": "disjoint"},
            r"^attack\.source: 'disjoint' is not allowed: the attacker has no images",
        ),
        (
            {"query_budget": 255},
            r"^attack\.query_budget: 255 is not allowed: must be at least (1792|256), the c",
        ),
        ({"batch_size": 1}, r"^attack\.batch_size: 1 is not allowed"),
        ({"views": 3}, r"^attack\.views: unknown key"),
        ({"recipe": {}}, r"^attack\.recipe: unknown key"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": kind, **how}, "attack")


def test_a_student_too_deep_for_the_images_is_refused() -> None:
    images, labels = some().images.numpy(), some().labels.numpy()
    held = Dataset(x_train=images, y_train=labels, x_test=images, y_test=labels, classes=CLASSES, digest="0")
    target = AttackedNetwork(data=Digits(), split=SplitSizes(), model=STUDENT, recipe=RECIPE)
    facts = TargetFacts(path="attacks.0", victim=target, datasets={Digits(): held})
    Disguide().validate(facts)
    with pytest.raises(ValueError, match=r"^attacks\.0\.student: .* is not allowed for images 6 pixels wide"):
        Disguide(student=Cnn(depth=3)).validate(facts)


def test_the_network_is_the_victims_unless_it_is_said() -> None:
    target = AttackedNetwork(data=Digits(), split=SplitSizes(), model=STUDENT, recipe=RECIPE)
    assert Dfme().resolve(target).student == Dfme().architecture(target) == STUDENT
    assert Dfme(student=Cnn(width=3)).architecture(target) == Cnn(width=3)
