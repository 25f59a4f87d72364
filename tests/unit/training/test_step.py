"""The engine: every fast path against the slow one, nothing that waits for the device, the same shapes in each step."""

from __future__ import annotations

import gc
import shutil
import statistics
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import Extraction
from mwm.config.spec import decode
from mwm.data.images import Augmentation
from mwm.models.networks import Cnn, ResNet20
from mwm.oracle.oracle import Oracle
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import Store
from mwm.training.device import deterministic
from mwm.training.loop import fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch, TrainStep, _CompiledModel
from mwm.trials.outcome import Outcome
from mwm.trials.run import run
from mwm.trials.trial import Trial
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Unwatermarked
from tests.helpers.engines import (
    BATCH,
    CLASSES,
    MARGIN,
    MARKS,
    MODES,
    SHAPES,
    SMALL,
    Call,
    Watch,
    apart,
    called,
    engine,
    go,
    network,
    some,
)

NO_COMPILER = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique")
"""Operations that make a computer wait until its GPU has done all that came before."""


@pytest.mark.parametrize("scheme", MARKS, ids=called)
def test_in_float32_channels_last_ends_where_the_plain_layout_ends(scheme: Any) -> None:
    slow, fast = engine(SMALL, scheme, channels_last=False), engine(SMALL, scheme)
    for made in (slow, fast):
        go(made, 20)
    assert apart(fast, slow) <= 1e-5
    assert apart(slow, engine(SMALL)) > 1e-2, "nothing was learnt"


def test_a_residual_network_too() -> None:
    """In float64: in float32 a rounding that moves one ReLU or one sign of the ascent is soon another training."""
    slow, fast = (engine(ResNet20(), dtype=torch.float64, channels_last=laid) for laid in (False, True))
    for made in (slow, fast):
        go(made, 20)
    assert apart(fast, slow) <= 1e-5


@NO_COMPILER
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # asked by Dynamo
@pytest.mark.parametrize(
    "scheme", [MODES[0], *(pytest.param(one, marks=pytest.mark.long) for one in MODES[1:])], ids=called
)
def test_compiled_steps_end_where_plain_ones_end(scheme: Any) -> None:
    """In float64, for the same reason: which roundings a compiled step has depends on the processor."""
    slow = engine(SMALL, scheme, dtype=torch.float64, channels_last=False)
    fast = engine(SMALL, scheme, dtype=torch.float64, compile=True)
    for made in (slow, fast):
        go(made, 20)
    assert apart(fast, slow) <= 1e-9
    assert fast.training.model.state_dict().keys() == slow.training.model.state_dict().keys()


@NO_COMPILER
@pytest.mark.slow
def test_a_compiled_ascent_spends_nothing_on_the_weights() -> None:
    """Their slopes are half of a backward pass: the kernels that would compute them must not be there."""
    model = _CompiledModel(network(SMALL).train())
    images = torch.rand(6, *SHAPES["cnn"])

    def kernels(images: Tensor) -> set[tuple[Any, ...]]:
        loss = model(images).sum()
        with Watch() as watch:
            torch.autograd.backward(loss)
        return {tuple(call.last) for call in watch.calls if "convolution_backward" in call.name}

    assert kernels(images) == {(True, True, False), (False, True, False)}
    assert all(weight.grad is not None for weight in model.parameters())
    model.zero_grad()
    assert kernels(images.requires_grad_()) == {(True, False, False)}
    assert all(weight.grad is None for weight in model.parameters())


def recorded(engine: TrainStep) -> list[list[Call]]:
    steps = []
    for step in range(3):
        with Watch() as watch:
            engine.step(torch.arange(BATCH) + step, 0.01)
        steps.append([call._replace(last=None) for call in watch.calls])
    return steps


def waits(calls: list[Call]) -> list[str]:
    return [call.name for call in calls if any(word in call.name for word in WAITS)]


@pytest.mark.parametrize("scheme", MARKS, ids=called)
def test_no_step_waits_for_the_device_and_all_have_the_same_shapes(scheme: Any) -> None:
    _, second, third = recorded(engine(SMALL, scheme))
    assert second == third
    assert waits(second) == []


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_nor_does_a_step_of_an_attack(labels: Any) -> None:
    made = engine(SMALL)
    oracle, attack = Oracle(network(SMALL), labels), Extraction(labels=labels)

    def objective(model: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
        return attack.loss(oracle(batch.images), model(batch.images), batch.labels)

    made.objective = objective
    _, second, third = recorded(made)
    assert second == third
    assert waits(second) == []


def test_an_epoch_waits_for_its_loss_and_for_its_judgement_alone() -> None:
    part = some(5 * BATCH)
    training = TrainState(network(SMALL), Recipe(epochs=2, batch_size=BATCH))
    objective = MARGIN.objective(QuerySet(part.images[:9], (part.labels[:9] + 1) % CLASSES, part.labels[:9]))
    epochs = fit(training, part, objective, augmentation=Augmentation(flip=True, pad=1), seed=0, validation=part)
    next(epochs)
    with Watch() as watch:
        next(epochs)
    assert len(waits(watch.calls)) == 3  # the loss, whether answers are finite, accuracy


def test_deterministic_computing_ends_with_the_epoch() -> None:
    inside = []

    def spy(model: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
        inside.append(torch.are_deterministic_algorithms_enabled())
        return F.cross_entropy(model(batch.images), batch.labels)

    part = some(BATCH)
    for wanted in (True, False):
        training = TrainState(network(SMALL), Recipe(epochs=1, batch_size=BATCH, deterministic=wanted))
        for _ in fit(training, part, spy, augmentation=Augmentation(flip=False, pad=0), seed=0, validation=part):
            assert not torch.are_deterministic_algorithms_enabled()
    assert inside == [True, False]
    with pytest.raises(RuntimeError, match="within"), deterministic(True):
        raise RuntimeError("within")
    assert not torch.are_deterministic_algorithms_enabled()


def sweep(**recipe: Any) -> Sweep:
    """Three margin victims on digits, as in the quickstart but shorter."""
    asked: Sweep = decode(
        Sweep,
        {
            "name": "short",
            "victim": {
                "data": "digits",
                "split": {"validation": 40, "queries": 100},
                "model": {"kind": "cnn", "width": 16},
                "recipe": {"epochs": 15, "batch_size": 64, "lr": 0.1, "momentum": 0.9, "schedule": "cosine", **recipe},
                "scheme": {"kind": "margin", "num_queries": 20, "step_size": 3 / 255, "weight": 0.3},
                "seed": {"grid": [0, 1, 2]},
            },
            "attacks": [],
        },
    )
    return asked


@pytest.mark.slow
@pytest.mark.long
def test_bf16_ends_within_the_noise_of_float32(tmp_path: Path) -> None:
    def ends(**recipe: Any) -> dict[str, list[float]]:
        asked = sweep(**recipe)
        held, _ = validate(asked)
        found: dict[str, list[float]] = {"clean_acc": [], "query_acc": []}
        for victim in asked.victim_specs:
            *_, last = run(Trial(victim=victim), held, Store(tmp_path), torch.device("cpu"))
            assert isinstance(last, Outcome)
            for name, values in found.items():
                values.append(getattr(last, name))
        return found

    full, short = ends(channels_last=False), ends(bf16=True)
    for name, values in full.items():
        difference = abs(statistics.fmean(short[name]) - statistics.fmean(values))
        noise = (statistics.variance(values) + statistics.variance(short[name])) / len(values)
        assert difference <= max(3 * noise**0.5, 0.02), f"{name}: {values} against {short[name]}"
    assert min(full["clean_acc"] + short["clean_acc"]) > 0.85


def test_nothing_of_a_training_outlives_it() -> None:
    """A worker goes on to the next trial at once; what only the garbage collector can free would be in its way."""
    part = some(2 * BATCH)
    gc.collect()
    gc.disable()
    try:
        training = TrainState(network(SMALL), Recipe(epochs=1, batch_size=BATCH))
        seen = weakref.ref(training), weakref.ref(training.model)
        objective = Unwatermarked().objective(QuerySet(part.images[:2], part.labels[:2], part.labels[:2]))
        for epoch in fit(
            training, part, objective, augmentation=Augmentation(flip=True, pad=1), seed=0, validation=part
        ):
            assert epoch.loss > 0
        del training, epoch
        assert [one() for one in seen] == [None, None]
    finally:
        gc.enable()


@NO_COMPILER
@pytest.mark.slow
@pytest.mark.long
def test_many_trainings_in_one_process_are_all_compiled() -> None:
    """PyTorch keeps eight programmes of a function, and quietly compiles no ninth."""
    torch.compiler.reset()
    for width in range(2, 8):
        made = engine(Cnn(width=width, depth=1), compile=True)
        before = compiled_graphs()
        go(made, 1)
        assert compiled_graphs() - before == 3, f"width {width}: clean pass, ascent and query pass"


def compiled_graphs() -> int:
    """How many programmes were compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
