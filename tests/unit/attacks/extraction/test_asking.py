"""What is asked and which answers are kept: views, noise, own labels, filters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import Attack, Extraction
from mwm.attacks.access import BlackBoxAccess, TargetFacts
from mwm.attacks.extraction.answers import named_labels
from mwm.attacks.sequence import AttackedNetwork
from mwm.attacks.sources import transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import decode, shown_fields
from mwm.data.datasets import Digits
from mwm.data.images import Augmentation, augment, to_float
from mwm.data.splits import LabeledImages, SplitSizes
from mwm.oracle.oracle import Oracle
from mwm.training.recipe import Cosine, MultiStep, Recipe
from tests.helpers.stealing import CLASSES, COUNT, FILLED, RECIPE, STUDENT, access_for, same, some, steal, victim

BUDGET = 20
SHIFTED = Augmentation(flip=True, pad=1)


def thief(**how: Any) -> Any:
    return Extraction(**{"query_budget": BUDGET, **FILLED, **how})


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize("views", [1, 4])
def test_each_view_of_each_image_is_asked_once_and_kept(labels: Any, views: int) -> None:
    attack = thief(labels=labels, views=views)
    access = access_for(attack)
    kept = attack.kept_answers(access)
    assert access.oracle.calls == attack.allowance == views * BUDGET
    drawn = transfer_set(some(), BUDGET, make_generator(attack.seed, "budget"))
    assert kept.asked.labels.tolist() == drawn.labels.tolist() * views
    assert kept.origin.tolist() == [*range(BUDGET)] * views
    for number, shown in enumerate(torch.split(kept.asked.images, BUDGET)):
        assert torch.equal(shown, augment(drawn.images, SHIFTED, make_generator(attack.seed, "view", number)))
    torch.testing.assert_close(kept.answers, Oracle(victim(), labels)(to_float(kept.asked.images)))


def test_without_views_the_images_are_asked_as_they_are() -> None:
    attack = thief()
    access = access_for(attack)
    kept, drawn = attack.kept_answers(access), attack.transfer_images(access)
    assert torch.equal(kept.asked.images, drawn.images)
    assert access.oracle.calls == attack.allowance == BUDGET
    assert Extraction(**FILLED).allowance is None


def test_more_views_go_on_where_fewer_end() -> None:
    fewer, more = (thief(views=views) for views in (2, 3))
    one, other = (attack.kept_answers(access_for(attack)) for attack in (fewer, more))
    assert torch.equal(one.asked.images, other.asked.images[: 2 * BUDGET])


def test_an_attacker_that_does_not_augment_learns_what_it_asked() -> None:
    attack = thief()
    plain = steal(replace(attack, augment=False))
    assert same(plain, steal(attack, access_for(attack, views=False)))
    assert not same(plain, steal(attack))


@pytest.mark.parametrize(
    ("epochs", "views", "passes"), [(12, None, 12), (12, 1, 12), (12, 5, 2), (12, 4, 3), (3, 20, 1)]
)
def test_an_epoch_passes_over_the_images_and_not_over_their_views(epochs: int, views: int | None, passes: int) -> None:
    attack = thief(views=views, recipe=replace(RECIPE, epochs=epochs))
    rows = list(attack.run(access_for(attack)))
    assert attack.epochs() == rows[-1].epoch == rows[-1].training.epochs == passes


def test_the_rate_falls_after_as_many_steps_as_the_recipe_says() -> None:
    schedule = MultiStep(milestones=(4, 6), factor=0.5)
    recipe = Recipe(epochs=8, batch_size=10, lr=0.1, schedule=schedule)
    stepped = thief(recipe=recipe, views=2)
    assert [row.lr for row in stepped.run(access_for(stepped))] == [0.1, 0.1, 0.05, 0.025]
    cosine = replace(recipe, schedule=Cosine())
    one, other = (list(a.run(access_for(a))) for a in (thief(recipe=cosine), thief(recipe=cosine, views=2)))
    assert [row.lr for row in other] == pytest.approx([row.lr for row in one][1::2], abs=0.01)


class Pixel(nn.Module):
    """A victim whose answer follows one pixel: a bright one is class 0, a dark one class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        bright = self.weight * images[:, 0, 2, 2]
        return torch.stack([bright, 1 - bright, *[torch.zeros_like(bright)] * (CLASSES - 2)], 1)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_a_smoothed_answer_is_the_mean_over_noisy_views_each_of_which_is_a_call(labels: Any) -> None:
    attack = thief(labels=labels, smoothing=7, noise=0.2)
    access = access_for(attack, Pixel())
    kept, draw = attack.kept_answers(access), make_generator(attack.seed, "smoothing", 0)
    assert access.oracle.calls == attack.allowance == 7 * BUDGET
    assert torch.equal(kept.asked.images, attack.transfer_images(access).images), "the noise is learnt"
    heard = []
    for _ in range(7):
        shown = to_float(augment(kept.asked.images, SHIFTED, draw))
        heard.append(Pixel()((shown + 0.2 * torch.randn(shown.shape, generator=draw)).clamp(0, 1)).softmax(1))
    if labels == "soft":
        torch.testing.assert_close(kept.answers.exp(), torch.stack(heard).mean(0), rtol=1e-5, atol=1e-6)
    else:
        votes = sum(nn.functional.one_hot(one.argmax(1), CLASSES) for one in heard)
        assert torch.equal(kept.answers, torch.as_tensor(votes).argmax(1))


def test_the_noise_has_its_deviation_and_stays_within_the_image() -> None:
    attack, grey = thief(smoothing=1), torch.full((100, 1, 6, 6), 128, dtype=torch.uint8)
    view = attack._noisy_view(grey, Augmentation(), torch.Generator().manual_seed(0))
    assert (view - 128 / 255).std().item() == pytest.approx(8 / 255, rel=0.05)
    loud = replace(attack, noise=5.0)._noisy_view(grey, Augmentation(), torch.Generator().manual_seed(0))
    assert (loud.min().item(), loud.max().item()) == (0, 1)


def test_views_and_smoothing_multiply_the_calls() -> None:
    attack = thief(views=2, smoothing=3)
    access = access_for(attack)
    assert len(attack.kept_answers(access).answers) == 2 * BUDGET
    assert access.oracle.calls == attack.allowance == 6 * BUDGET


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize("views", [None, 2])
def test_an_attacker_with_own_labels_learns_no_answer_that_names_another(labels: Any, views: int | None) -> None:
    plain, dropping, relabelling = (
        thief(labels=labels, views=views, own_labels=how) for how in ("ignored", "drop", "relabel")
    )
    every, fewer, as_many = (one.kept_answers(access_for(one)) for one in (plain, dropping, relabelling))
    right = named_labels(every.answers) == every.asked.labels
    assert 0 < right.sum() < len(right)
    assert torch.equal(fewer.asked.images, every.asked.images[right])
    assert torch.equal(fewer.answers, every.answers[right])
    assert torch.equal(fewer.origin, every.origin[right])
    assert torch.equal(as_many.asked.images, every.asked.images)
    assert torch.equal(as_many.answers[right], every.answers[right])
    assert torch.equal(named_labels(as_many.answers), every.asked.labels)


def test_few_answers_are_one_batch_and_none_are_refused() -> None:
    attack = thief(own_labels="drop")
    access = access_for(attack)
    few = len(attack.kept_answers(access).asked)
    assert 0 < few < RECIPE.batch_size
    rows = list(attack.run(access_for(attack)))
    assert len(rows) == 3
    named = Oracle(victim(), "hard")(to_float(some().images))
    never = replace(
        access, images=LabeledImages(some().images, (named + 1) % CLASSES), oracle=access_for(attack).oracle
    )
    with pytest.raises(ValueError, match=r"own_labels 'drop', filter 'none': no answer is left to learn$"):
        attack.run(never)


def planted() -> LabeledImages:
    """Bright and dark images, of which numbers 5 and 30 have a pixel that makes `Pixel` name the other class."""
    bright = torch.arange(COUNT) % 2
    drawn = torch.Generator().manual_seed(3)
    images = 180 * bright[:, None, None, None] + torch.randint(60, (COUNT, 1, 6, 6), generator=drawn)
    images[torch.tensor([5, 30]), 0, 2, 2] = torch.tensor([0, 255])
    return LabeledImages(images.byte(), 1 - bright)


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize("how", ["pixels", "features"])
def test_a_filter_drops_the_answers_that_differ_from_those_of_their_neighbours(how: Any, labels: Any) -> None:
    attack = thief(query_budget=COUNT, labels=labels, filter=how, neighbors=5)
    images = planted()
    access = replace(access_for(attack, Pixel()), images=images)
    kept = attack.kept_answers(access)
    assert access.oracle.calls == COUNT
    held = {image.numpy().tobytes() for image in kept.asked.images}
    dropped = [number for number, image in enumerate(images.images) if image.numpy().tobytes() not in held]
    assert dropped == [5, 30]
    assert torch.equal(named_labels(kept.answers), kept.asked.labels)


def test_the_filter_follows_own_labels() -> None:
    attack = thief(query_budget=COUNT, filter="pixels", own_labels="drop", neighbors=5)
    images = planted()
    changed = images.labels.clone()
    changed[7] = 3
    access = replace(access_for(attack, Pixel()), images=LabeledImages(images.images, changed))
    assert len(attack.kept_answers(access).asked) == COUNT - 3


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"views": 3}, r"^attack\.views: 3 is not allowed: needs a query_budget, whose answers are kept$"),
        ({"augment": False}, r"^attack\.augment: false is not allowed: needs a query_budget, whose answers are kept$"),
        ({"smoothing": 3}, r"^attack\.smoothing: 3 is not allowed: needs a query_budget"),
        ({"own_labels": "drop"}, r"^attack\.own_labels: 'drop' is not allowed: needs a query_budget"),
        ({"filter": "pixels"}, r"^attack\.filter: 'pixels' is not allowed: needs a query_budget"),
        (
            {"own_labels": "drop", "query_budget": 50, "source": "digits"},
            r"^attack\.own_labels: 'drop' is not allowed: the true labels of source 'digits' mean nothing",
        ),
        (
            {"filter": "pixels", "query_budget": 10, "neighbors": 10},
            r"^attack\.neighbors: 10 is not allowed: must be below query_budget$",
        ),
        ({"labels": "hard", "flatten": True}, r"^attack\.flatten: true is not allowed: hard answers have no prob"),
        ({"label_smoothing": 1.5}, r"^attack\.label_smoothing: 1.5 is not allowed"),
        ({"noise": 0.1}, r"^attack\.noise: 0\.1 is not allowed without smoothing: leave it out$"),
        (
            {"neighbors": 3, "query_budget": 10},
            r"^attack\.neighbors: 3 is not allowed without filter: leave it out$",
        ),
        ({"noise": 0.0}, r"^attack\.noise: 0.0 is not allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "extraction", **how}, "attack")


def followed(data: Any) -> AttackedNetwork:
    return AttackedNetwork(data=data, split=SplitSizes(), model=STUDENT, recipe=RECIPE)


def test_views_that_are_all_the_same_are_refused() -> None:
    facts = TargetFacts(path="attacks.0", victim=followed(Digits(flip=False, pad=0)), datasets={})
    with pytest.raises(ValueError, match=r"^attacks\.0\.views: 2 is not allowed: victim\.data\.flip is false and"):
        thief(views=2).validate(facts)
    thief(views=2).validate(replace(facts, victim=followed(Digits(pad=1))))
    foreign = thief(views=2, source=Digits(flip=False, pad=0))
    with pytest.raises(ValueError, match=r"attacks\.0\.source\.flip is false and attacks\.0\.source\.pad 0"):
        foreign.validate(replace(facts, victim=followed(Digits(pad=1))))


def test_all_views_together_fill_a_batch() -> None:
    facts = TargetFacts(path="attacks.0", victim=followed(Digits(pad=1)), datasets={})
    thief(query_budget=4, views=3).validate(facts)
    with pytest.raises(ValueError, match=r"^attacks\.0\.query_budget: 3 is not .* least 4, .*batch_size over 3 views$"):
        thief(query_budget=3, views=3).validate(facts)


def test_what_is_said_of_answers_is_told_in_names() -> None:
    told = shown_fields(Extraction)
    assert {"views", "augment", "smoothing", "noise", "own_labels", "filter", "neighbors", "label_smoothing"} <= {*told}


def test_an_oracle_is_granted_all_calls_of_the_budget_and_no_more() -> None:
    attack = thief(views=2)
    access: BlackBoxAccess = access_for(attack)
    attack.kept_answers(access)
    with pytest.raises(AssertionError, match=f"{2 * BUDGET + 1} calls of {2 * BUDGET}"):
        access.oracle.ask_all(some().images[:1])


def test_fewer_answers_than_a_batch_are_whole_groups_of_batch_normalisation() -> None:
    grouped = replace(RECIPE, batch_size=20, batchnorm_groups=4)
    attack = Extraction(query_budget=COUNT, own_labels="drop", student=STUDENT, recipe=grouped)
    kept = len(attack.kept_answers(access_for(attack)).asked)
    *_, last = attack.run(access_for(attack))
    training: Any = last.training
    assert 4 <= kept < 20
    assert (training.recipe.batch_size, training.recipe.batchnorm_groups) == (kept - kept % 4, 4)
