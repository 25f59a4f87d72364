"""Watermark schemes: every step equals a plain transcription of the published one; promises of the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.build import Model, build_model
from mwm.models.networks import Cnn, ResNet20
from mwm.training.loop import fit
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Margin, Scheme, TriggerSet, Unwatermarked
from tests.unit.watermarks.schemes.cases import CASES

SHAPE = (3, 8, 8)
LR, DECAY = 0.1, 1e-2


class PreciseQueries(QuerySet):
    """A query set whose images enter the network in float64."""

    @property
    def float_images(self) -> Tensor:
        return self.images.double() / 255


def name(scheme: Any) -> str:
    return "-".join(str(getattr(scheme, key, "")) for key in ("kind", "queries_per_step", "batchnorm"))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(model: Model, seed: int = 0) -> nn.Module:
    return build_model(model, shape=SHAPE, classes=5, mean=[0.5] * 3, std=[0.25] * 3, generator=seeded(seed))


def key(num: int = 10) -> PreciseQueries:
    images = torch.randint(256, (num, *SHAPE), generator=seeded(1), dtype=torch.uint8)
    truth = torch.arange(num) % 5
    second = QuerySet(images.flip(0), (truth.flip(0) + 1) % 5, truth.flip(0))
    return PreciseQueries(images, (truth + 1 + torch.arange(num) % 4) % 5, truth, second=second)


def batch(n: int = 128) -> tuple[Tensor, Tensor]:
    images = torch.rand(n, *SHAPE, generator=seeded(2), dtype=torch.float64)
    return images, torch.randint(5, (n,), generator=seeded(3))


def as_batch(images: Tensor, labels: Tensor) -> Batch:
    return Batch(images, labels, torch.arange(len(labels)))


def norms(model: nn.Module) -> dict[str, Tensor]:
    """The running statistics and counters of batch normalisation."""
    return {k: v for k, v in model.state_dict().items() if "running" in k or "tracked" in k}


@contextmanager
def put_back(model: nn.Module) -> Iterator[None]:
    """Whatever happens to the running statistics inside is undone."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    held = [dict(layer.named_buffers()) for layer in layers]
    for layer, buffers in zip(layers, held, strict=True):
        for k, value in buffers.items():
            setattr(layer, k, value.clone())
    yield
    for layer, buffers in zip(layers, held, strict=True):
        for k, value in buffers.items():
            setattr(layer, k, value)


def ascended(predict: Callable[[Tensor], Tensor], x: Tensor, t: Tensor, scheme: Margin | TriggerSet) -> Tensor:
    """The plain rule: x <- clip(x + a sign(grad CE)), from the stored images on; none for `base`."""
    for _ in range(scheme.steps if isinstance(scheme, Margin) else 0):
        x = x.clone().requires_grad_()
        chances = torch.log_softmax(predict(x), 1)
        (slope,) = torch.autograd.grad(-chances[torch.arange(len(t)), t].sum(), x)
        assert isinstance(scheme, Margin)
        x = torch.minimum(torch.maximum(x.detach() + scheme.step_size * slope.sign(), x.new_zeros(())), x.new_ones(()))
    return x.detach()


def losses_apart(
    model: nn.Module, clean: tuple[Tensor, Tensor], x: Tensor, t: Tensor, scheme: Margin | TriggerSet
) -> Tensor:
    """Per-sample losses of the modes in which clean images and queries pass separately, as the table says."""
    model.train()
    first = F.cross_entropy(model(clean[0]), clean[1], reduction="none")
    if scheme.batchnorm == "reference":
        x = ascended(model, x, t, scheme)
        answers = model(x)
    else:
        with put_back(model):
            x = ascended(model.eval() if scheme.batchnorm == "frozen" else model, x, t, scheme)
        with put_back(model.train()):
            answers = model(x)
    return torch.cat([first, scheme.weight * F.cross_entropy(answers, t, reduction="none")])


def losses_joint(
    model: nn.Module, clean: tuple[Tensor, Tensor], x: Tensor, t: Tensor, scheme: Margin | TriggerSet
) -> Tensor:
    """Per-sample losses when clean images and queries share every batch; one update of the running statistics."""
    model.train()
    images, labels = clean
    with put_back(model):
        x = ascended(lambda moved: model(torch.cat([images, moved]))[len(images) :], x, t, scheme)
    answers = model(torch.cat([images, x]))
    parts = answers.split([len(images), len(x)])
    first, second = (F.cross_entropy(p, y, reduction="none") for p, y in zip(parts, (labels, t), strict=True))
    return torch.cat([first, scheme.weight * second])


def plain_step(
    model: nn.Module, clean: tuple[Tensor, Tensor], x: Tensor, t: Tensor, scheme: Margin | TriggerSet
) -> float:
    """One published step on drawn queries x, t: mean over the concatenated losses, then SGD with weight decay."""
    losses = losses_joint if scheme.batchnorm == "joint" else losses_apart
    loss = losses(model, clean, x, t, scheme).mean()
    weights = list(model.parameters())
    for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.data = weight.data - LR * (slope + DECAY * weight.data)
    return loss.item()


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def take_step(training: TrainState, scheme: Any, queries: QuerySet, draw: torch.Generator) -> float:
    loss: Tensor = scheme.objective(queries)(training.model, as_batch(*batch()), draw)
    training.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    training.optimizer.step()
    return loss.item()


STEPS: list[Margin | TriggerSet] = [
    Margin(batchnorm="reference"),
    *(Margin(batchnorm=mode, step_size=4 / 255) for mode in ("clean", "frozen", "joint")),
]
BASES: list[Margin | TriggerSet] = [TriggerSet(batchnorm=mode) for mode in ("reference", "clean", "frozen", "joint")]
RECIPE = Recipe(lr=LR, weight_decay=DECAY)


SMALL, REAL = Cnn(width=4, depth=2), ResNet20()


@pytest.mark.parametrize(
    ("model", "steps", "scheme"),
    [(SMALL, 2, scheme) for scheme in STEPS + BASES] + [(REAL, 1, scheme) for scheme in STEPS],
    ids=lambda value: getattr(value, "batchnorm", str(getattr(value, "kind", value))),
)
def test_a_step_equals_the_published_one(model: Model, steps: int, scheme: Margin | TriggerSet) -> None:
    ours, plain, queries = network(model).double().train(), network(model).double(), key()
    training = TrainState(ours, RECIPE)
    drawn, again = seeded(7), seeded(7)
    for _ in range(steps):
        loss = take_step(training, scheme, queries, drawn)
        pick = torch.randint(10, (25 if isinstance(scheme, Margin) else 1,), generator=again)
        x, t = queries.images[pick] / torch.tensor(255, dtype=torch.float64), queries.labels[pick]
        assert loss == pytest.approx(plain_step(plain, batch(), x, t, scheme), abs=1e-9)
        assert largest_difference(ours, plain) <= 1e-9
    assert largest_difference(ours, network(model).double()) > 1e-3, "nothing was learnt"


@pytest.mark.parametrize(
    ("scheme", "updates"),
    [*zip(STEPS, (7, 1, 1, 1), strict=True), *zip(BASES, (2, 1, 1, 1), strict=True), (Unwatermarked(), 1)],
    ids=lambda value: str(value) if isinstance(value, int) else name(value),
)
def test_running_statistics_move_as_often_as_the_mode_says(scheme: Any, updates: int) -> None:
    model = network(Cnn(width=2, depth=1)).double().train()
    scheme.objective(key())(model, as_batch(*batch(16)), seeded(0))
    assert model.state_dict()["network.norm0.num_batches_tracked"].item() == updates
    assert all(layer.training for layer in model.modules())
    assert all(layer.track_running_stats for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))


def test_only_clean_images_move_the_running_statistics_unless_the_mode_says_otherwise() -> None:
    alone, (images, labels) = network(Cnn(width=2, depth=1)).double().train(), batch(16)
    alone(images)
    for scheme in STEPS + BASES:
        model = network(Cnn(width=2, depth=1)).double().train()
        scheme.objective(key())(model, as_batch(images, labels), seeded(0))
        moved = any(not torch.equal(norms(model)[k], v) for k, v in norms(alone).items())
        assert moved == (scheme.batchnorm in ("reference", "joint")), name(scheme)


@pytest.mark.parametrize("batchnorm", ["reference", "clean", "frozen", "joint"])
def test_the_loop_draws_in_the_recorded_order(batchnorm: Any) -> None:
    scheme, queries = Margin(batchnorm=batchnorm, queries_per_step=4, steps=2), key()
    images = torch.randint(256, (20, *SHAPE), generator=seeded(4), dtype=torch.uint8)
    part = LabeledImages(images, torch.arange(20) % 5)
    recipe = Recipe(epochs=2, batch_size=6, lr=LR, weight_decay=DECAY, schedule=MultiStep(milestones=(9,)))
    training, plain = (
        TrainState(network(Cnn(width=2, depth=2)).double(), recipe),
        network(Cnn(width=2, depth=2)).double(),
    )
    epochs = fit(
        training, part, scheme.objective(queries), augmentation=Augmentation(flip=False, pad=0), seed=5, validation=part
    )
    for epoch, done in enumerate(epochs):
        order = torch.randperm(20, generator=make_generator(5, "order", epoch))
        draw, losses = make_generator(5, "draw", epoch), []
        for step in range(3):
            rows, pick = order[6 * step : 6 * step + 6], torch.randint(10, (4,), generator=draw)
            clean = (images[rows] / 255, part.labels[rows])
            losses.append(plain_step(plain, clean, queries.float_images[pick], queries.labels[pick], scheme))
        assert done.loss == pytest.approx(sum(losses) / 3, abs=1e-6)
        assert largest_difference(training.model, plain) <= 1e-9


def test_the_whole_catalogue_is_under_contract() -> None:
    assert {type(case) for case in CASES} == set(get_args(get_args(Scheme)[0]))


@pytest.mark.parametrize("scheme", CASES, ids=name)
def test_a_scheme_keeps_its_promises(scheme: Any) -> None:
    queries, before = key(), key().digest()
    part = LabeledImages(queries.images.repeat(3, 1, 1, 1), queries.truth.repeat(3))
    objective = scheme.objective(queries)

    def train(seed: int) -> nn.Module:
        training = TrainState(network(Cnn(width=2, depth=1)).double(), Recipe(epochs=2, batch_size=10))
        list(fit(training, part, objective, augmentation=Augmentation(flip=True, pad=1), seed=seed, validation=part))
        return training.model

    first, second, other = train(0), train(0), train(1)
    assert largest_difference(first, second) == 0, "same seed, different network"
    assert largest_difference(first, other) > 1e-6, "another seed, the same network"
    assert queries.digest() == before, "the stored queries were overwritten"
    assert decode(Scheme, scheme.kind) == type(scheme)()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scheme", CASES, ids=name)
def test_perturbed_queries_are_images_and_the_network_is_left_alone(scheme: Any, training: bool) -> None:
    model, queries = network(Cnn(width=2, depth=1)).double().train(training), key()
    before = deepcopy(model.state_dict())
    shown = scheme.perturbed_queries(model, queries)
    drift = float((shown - queries.float_images).abs().max())
    taught = scheme.parts()[0]
    if isinstance(taught, Margin):
        assert 0 < drift <= taught.steps * taught.step_size + 1e-12
        plain = ascended(deepcopy(model).eval(), queries.float_images, queries.labels, taught)
        assert taught.mass < 1 or torch.equal(shown, plain)
    else:
        assert drift == 0
    assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
    assert model.training == training
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, before[k]) for k, value in model.state_dict().items())


def test_the_control_never_sees_a_query_and_draws_nothing() -> None:
    model, draw = network(Cnn(width=2, depth=1)).double().train(), seeded(0)
    clean = batch(16)
    losses = {float(Unwatermarked().objective(key(num))(model, as_batch(*clean), draw).detach()) for num in (3, 10)}
    assert losses == {F.cross_entropy(model(clean[0]), clean[1]).item()}
    assert torch.equal(draw.get_state(), seeded(0).get_state())


def test_all_queries_take_part_once_each() -> None:
    model, queries, (images, labels) = network(Cnn(width=2, depth=1)).double().train(), key(), batch(16)
    scheme, draw = TriggerSet(queries_per_step="all", weight=0.3, batchnorm="clean"), seeded(0)
    loss = scheme.objective(queries)(model, as_batch(images, labels), draw).item()
    sums = [
        F.cross_entropy(model(x), y, reduction="sum")
        for x, y in ((images, labels), (queries.float_images, queries.labels))
    ]
    assert loss == pytest.approx((sums[0] + 0.3 * sums[1]).item() / 26, abs=1e-12)
    assert torch.equal(draw.get_state(), seeded(0).get_state())
