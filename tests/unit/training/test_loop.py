"""The training loop: schedules against tables, exact resume from disk, precision, divergence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.randomness import make_generator
from mwm.data.images import Augmentation, augment
from mwm.data.splits import LabeledImages
from mwm.models.build import build_model
from mwm.models.networks import Cnn
from mwm.storage.store import Store
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.loop import DivergedError, Epoch, fit
from mwm.training.recipe import Cosine, MultiStep, PaperSchedule, Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch, Objective
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Margin, Scheme, TriggerSet, Unwatermarked
from tests.helpers.engines import learnable

SHAPE, CLASSES = (1, 8, 8), 4


def network(seed: int = 0) -> nn.Module:
    drawn = torch.Generator().manual_seed(seed)
    return build_model(Cnn(width=3, depth=2), shape=SHAPE, classes=CLASSES, mean=[0.5], std=[0.3], generator=drawn)


def some(n: int, seed: int = 0) -> LabeledImages:
    return learnable(n, shape=SHAPE, classes=CLASSES, seed=seed)


def key() -> QuerySet:
    part = some(8, 5)
    return QuerySet(part.images, (part.labels + 1) % CLASSES, part.labels)


def clean(model: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
    return batch.cross_entropy(model(batch.images))


def margin() -> Objective:
    return Margin(queries_per_step=4, steps=2, step_size=8 / 255).objective(key())


def train(training: TrainState, objective: Objective = clean, *, seed: int = 0, n: int = 50) -> Iterator[Epoch]:
    return fit(
        training, some(n), objective, augmentation=Augmentation(flip=True, pad=1), seed=seed, validation=some(40, 1)
    )


def same(one: Any, other: Any) -> bool:
    """Equal bit for bit, in any nest of dicts, lists and tensors."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[k]) for k, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_the_rate_changes_with_every_batch() -> None:
    training = TrainState(network(), Recipe(epochs=3, batch_size=10, schedule=Cosine(), lr=0.2))
    rates: list[float] = []

    def spy(model: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
        rates.append(training.optimizer.param_groups[0]["lr"])
        return clean(model, batch, draw)

    rows = list(train(training, spy))
    assert rates == pytest.approx([0.2 * Cosine().lr_factor(i / 5, 3) for i in range(15)], abs=1e-15)
    assert [row.lr for row in rows] == rates[4::5]


@pytest.mark.parametrize(
    ("schedule", "drops"),
    [(PaperSchedule(), (9, 14)), (MultiStep(milestones=(2, 3)), (10, 15))],
    ids=["paper", "multistep"],
)
def test_the_rate_falls_where_the_schedule_says(schedule: Any, drops: tuple[int, int]) -> None:
    """With five batches an epoch, four epochs; the published rate falls a batch before an epoch ends."""
    training = TrainState(network(), Recipe(epochs=4, batch_size=10, schedule=schedule))
    rates: list[float] = []

    def spy(model: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
        rates.append(training.optimizer.param_groups[0]["lr"])
        return clean(model, batch, draw)

    rows = list(train(training, spy))
    first, second = drops
    expected = [0.1] * first + [0.01] * (second - first) + [0.001] * (20 - second)
    assert torch.equal(torch.tensor(rates), torch.tensor(expected)), "in float32, as the weights are"
    assert [row.lr for row in rows] == rates[4::5]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_training_is_the_plain_loop(momentum: float, nesterov: bool) -> None:
    nesterov = nesterov and momentum > 0
    recipe = Recipe(epochs=2, batch_size=16, lr=0.05, momentum=momentum, nesterov=nesterov, weight_decay=0.01)
    training, plain, part = TrainState(network().double(), recipe), network().double(), some(50)
    weights = list(plain.parameters())
    speed = [torch.zeros_like(weight) for weight in weights]
    for epoch, row in enumerate(train(training, seed=3)):
        order, shift, losses = (
            torch.randperm(50, generator=make_generator(3, "order", epoch)),
            make_generator(3, "augment", epoch),
            [],
        )
        for step in range(3):
            lr = 0.05 * PaperSchedule().lr_factor(epoch + (step + 1) / 3, 2)
            rows = order[16 * step : 16 * step + 16]
            images = augment(part.images[rows], augmentation=Augmentation(flip=True, pad=1), generator=shift) / 255
            loss = F.cross_entropy(plain.train()(images), part.labels[rows])
            slopes = torch.autograd.grad(loss, weights)
            for i, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
                pull = slope + 0.01 * weight.data
                speed[i] = momentum * speed[i] + pull
                weight.data = weight.data - lr * (pull + momentum * speed[i] if nesterov else speed[i])
            losses.append(loss.item())
        assert row.epoch == epoch + 1
        assert row.loss == pytest.approx(sum(losses) / 3, abs=1e-6)
        assert row.val_acc == accuracy(predict_logits(plain, some(40, 1).images), some(40, 1).labels)
        for ours, theirs in zip(training.model.state_dict().values(), plain.state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


RECIPES = [
    Recipe(epochs=6, batch_size=16, lr=0.05),
    Recipe(
        epochs=6, batch_size=16, lr=0.3, momentum=0.5, keep="best_validation", schedule=MultiStep(milestones=(2, 4))
    ),
    Recipe(epochs=6, batch_size=16, lr=0.1, momentum=0.9, nesterov=True, schedule=Cosine(warmup=0.3)),
    Recipe(epochs=6, batch_size=16, lr=0.3, bf16=True, momentum=0.9, keep="best_validation"),
    Recipe(epochs=6, batch_size=16, lr=0.2, keep="best_validation", augment_validation=True),
    Recipe(epochs=6, batch_size=16, lr=0.01, optimizer="adam", clip_grad_norm=0.5, label_smoothing=0.1),
    Recipe(epochs=6, batch_size=16, lr=0.01, optimizer="adamw", mixup=0.4, ema=0.9, keep="best_validation"),
]


def journal(training: TrainState, objective: Objective) -> Iterator[tuple[float, ...]]:
    for row in train(training, objective, seed=1):
        yield row.epoch, row.loss, row.lr, row.val_acc


@pytest.mark.parametrize("objective", [clean, margin()], ids=["clean", "margin"])
@pytest.mark.parametrize(
    "recipe", RECIPES, ids=lambda one: f"{one.optimizer}-{one.schedule.kind}-{one.keep}-{one.bf16}"
)
def test_an_interrupted_training_ends_bit_for_bit_alike(recipe: Recipe, objective: Objective, tmp_path: Path) -> None:
    store, straight, rows = Store(tmp_path), TrainState(network(), recipe), []
    for row in journal(straight, objective):
        rows.append(row)
        store.save_checkpoint(f"after-{row[0]}", straight.state())
    assert len(rows) == 6
    for epoch in range(1, 7):
        resumed, saved = TrainState(network(seed=epoch), recipe), store.checkpoint(f"after-{epoch}")
        assert saved is not None
        resumed.restore(saved)
        assert list(journal(resumed, objective)) == rows[epoch:]
        assert same(resumed.state(), straight.state())
        assert resumed.best_epoch == straight.best_epoch


def test_the_best_weights_are_kept_and_the_last_of_equals_wins() -> None:
    part, scores, seen = some(40, 1), [], []
    training = TrainState(network(), Recipe(epochs=12, batch_size=10, lr=0.1, momentum=0.9, keep="best_validation"))
    for row in train(training, seed=3, n=100):
        scores.append(row.val_acc)
        seen.append({name: value.clone() for name, value in training.model.state_dict().items()})
    assert scores[-1] < max(scores), "this training cannot tell the best from the last"
    assert scores.count(max(scores)) > 1, "this training cannot tell the last of equals"
    assert training.best_epoch == len(scores) - scores[::-1].index(max(scores))
    assert accuracy(predict_logits(training.model, part.images), part.labels) == max(scores)
    assert same(training.model.state_dict(), seen[training.best_epoch - 1])


def test_validation_images_can_be_shown_as_training_images_are() -> None:
    plain, shown = (
        TrainState(network(), Recipe(epochs=4, batch_size=10, lr=0.1, augment_validation=augmented))
        for augmented in (False, True)
    )
    before = [(row.loss, row.val_acc) for row in train(plain, seed=7)]
    part, how, after = some(40, 1), Augmentation(flip=True, pad=1), []
    for epoch, row in enumerate(train(shown, seed=7)):
        views = augment(part.images, how, make_generator(7, "validation", epoch))
        assert row.val_acc == accuracy(predict_logits(shown.model, views), part.labels)
        after.append((row.loss, row.val_acc))
    assert [loss for loss, _ in after] == [loss for loss, _ in before]
    assert [score for _, score in after] != [score for _, score in before]
    assert same(shown.state(), plain.state()), "how images are judged changes what is learnt"


def test_the_last_weights_are_kept_by_default() -> None:
    training = TrainState(network(), Recipe(epochs=3, batch_size=10))
    assert list(train(training))[-1].epoch == training.best_epoch == 3
    assert training.best_weights is None


def test_the_last_partial_batch_is_dropped() -> None:
    sizes: list[int] = []

    def spy(model: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
        assert model.training
        assert batch.images.dtype == torch.float32
        assert torch.equal(batch.labels, some(47).labels[batch.index]), "the rows are not those of the batch"
        sizes.append(len(batch.images))
        return clean(model, batch, draw)

    list(train(TrainState(network(), Recipe(epochs=2, batch_size=16)), spy, n=47))
    assert sizes == [16] * 4


def test_a_batch_larger_than_the_data_is_refused() -> None:
    list(train(TrainState(network(), Recipe(epochs=1, batch_size=20)), n=20))
    with pytest.raises(ValueError, match=r"recipe\.batch_size: 21 is not allowed: there are 20 images"):
        list(train(TrainState(network(), Recipe(epochs=1, batch_size=21)), n=20))


def test_divergence_is_told_with_its_epoch_and_rate() -> None:
    with pytest.raises(DivergedError, match=r"the loss is nan in epoch 1 \(recipe\.lr 1e\+30\): lower the rate"):
        list(train(TrainState(network(), Recipe(epochs=3, batch_size=10, lr=1e30))))


def test_divergence_in_the_very_last_step_is_told_too() -> None:
    recipe = Recipe(epochs=1, batch_size=50, lr=1e38, schedule=MultiStep())
    with pytest.raises(DivergedError, match=r"answers are not finite after epoch 1 \(recipe\.lr 1e\+38\)"):
        list(train(TrainState(network(), recipe)))


SCHEMES: list[Scheme] = [
    Unwatermarked(),
    TriggerSet(),
    Margin(queries_per_step=4),
    Margin(queries_per_step=4, batchnorm="joint"),
    Margin(queries_per_step=4, batchnorm="frozen"),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: f"{scheme.kind}-{getattr(scheme, 'batchnorm', '')}")
def test_losses_are_in_float32_under_bf16_and_weights_stay_float32(scheme: Any) -> None:
    inner, dtypes = scheme.objective(key()), set()

    def spy(model: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
        assert model(batch.images[:2]).dtype == torch.bfloat16, "the network did not run in bfloat16"
        loss: Tensor = inner(model, batch, draw)
        dtypes.add(loss.dtype)
        return loss

    recipe = Recipe(epochs=4, batch_size=16, lr=0.1, momentum=0.9, bf16=True)
    training = TrainState(network(), recipe)
    rows = list(train(training, spy, n=200))
    assert dtypes == {torch.float32}
    assert all(weight.dtype == torch.float32 for weight in training.model.parameters())
    assert all(weight.grad is None or weight.grad.dtype == torch.float32 for weight in training.model.parameters())
    buffers = [state["momentum_buffer"] for state in training.optimizer.state.values()]
    assert {buffer.dtype for buffer in buffers} == {torch.float32}
    assert rows[-1].loss < rows[0].loss


def test_a_bf16_loss_is_computed_from_the_logits_in_float32() -> None:
    model, part = network().eval(), some(40)
    images = part.images / 255
    with torch.autocast("cpu", torch.bfloat16):
        short = model(images)
        loss = Unwatermarked().objective(key())(model, Batch(images, part.labels, torch.arange(40)), torch.Generator())
    assert short.dtype == torch.bfloat16
    exact = F.cross_entropy(short.detach().double(), part.labels).item()
    assert loss.item() == pytest.approx(exact, rel=1e-6)


def test_bf16_and_channels_last_learn_the_same_task() -> None:
    def end(**options: Any) -> Epoch:
        recipe = Recipe(epochs=6, batch_size=10, lr=0.1, momentum=0.9, **options)
        return list(train(TrainState(network(), recipe), n=300))[-1]

    plain, laid, short = end(channels_last=False), end(), end(bf16=True)
    first = next(weight for weight in laid.training.model.parameters() if weight.ndim == 4)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert laid.loss == pytest.approx(plain.loss, rel=0.02)
    assert short.loss == pytest.approx(plain.loss, rel=0.1)
    assert min(plain.val_acc, laid.val_acc, short.val_acc) >= 0.65
