"""Several workers train the network that one would: the same images, draws and statistics, in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.build import build_model
from mwm.models.networks import Cnn, ResNet20
from mwm.training.batchnorm import shared_statistics
from mwm.training.loop import fit
from mwm.training.parallel import BUCKET_BYTES, WHOLE, BatchShare
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Confusion, Margin, TriggerSet, Unwatermarked
from tests.helpers.engines import learnable
from tests.helpers.workers import spread

SHAPE, CLASSES, SEED, EPOCHS = (3, 9, 9), 4, 3, 2
ROOM: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 12, "lr": 0.05}
PLAIN = Recipe(**ROOM, momentum=0.9)

MODES: list[Any] = [
    Margin(queries_per_step=5, steps=2, step_size=8 / 255, batchnorm=mode)
    for mode in ("reference", "clean", "frozen", "joint")
]

CASES: dict[str, tuple[Any, Recipe, Any]] = {
    **{f"margin-{one.batchnorm}": (one, PLAIN, Cnn(width=4, depth=2)) for one in MODES},
    "all-queries": (TriggerSet(queries_per_step="all"), PLAIN, Cnn(width=4, depth=2)),
    "one-query": (TriggerSet(batchnorm="reference"), PLAIN, Cnn(width=4, depth=2)),
    "none": (Unwatermarked(), PLAIN, Cnn(width=4, depth=2)),
    "resnet": (MODES[1], PLAIN, ResNet20()),
    "confusion": (Confusion(cells_per_class=2), Recipe(**ROOM, mixup=0.4, label_smoothing=0.1), Cnn(width=4, depth=2)),
    "adam": (
        MODES[1],
        Recipe(**ROOM, optimizer="adamw", clip_grad_norm=0.1, ema=0.9, keep="best_validation"),
        Cnn(width=4, depth=2),
    ),
    "groups": (MODES[0], Recipe(**ROOM, momentum=0.9, batchnorm_groups=2), Cnn(width=4, depth=2)),
    "four-groups": (MODES[2], Recipe(**ROOM, momentum=0.9, batchnorm_groups=4), Cnn(width=4, depth=2)),
    "one-query-groups": (
        TriggerSet(batchnorm="reference"),
        Recipe(**ROOM, momentum=0.9, batchnorm_groups=2),
        Cnn(width=4, depth=2),
    ),
}


RESUMED = ("margin-clean", "adam", "groups")


def some(n: int, seed: int = 0) -> LabeledImages:
    return learnable(n, shape=SHAPE, classes=CLASSES, seed=seed)


def started(case: str, seed: int = 0) -> TrainState:
    _, recipe, model = CASES[case]
    drawn = torch.Generator().manual_seed(seed)
    network = build_model(model, shape=SHAPE, classes=CLASSES, mean=[0.5] * 3, std=[0.3] * 3, generator=drawn)
    return TrainState(network.double(), recipe)


def trained(share: BatchShare, case: str, saved: Any = None) -> dict[str, Any]:
    """What a training came to: its rows, its last state, and the state after the first epoch."""
    training, marks = started(case, seed=0 if saved is None else 7), some(21, 1)
    if saved is not None:
        training.restore(saved)
    queries = QuerySet(marks.images, (marks.labels + 1) % CLASSES, marks.labels)
    rows, first = [], None
    for row in fit(
        training,
        some(50),
        CASES[case][0].objective(queries),
        augmentation=Augmentation(flip=True, pad=1),
        seed=SEED,
        validation=some(40, 2),
        share=share,
    ):
        rows.append((row.epoch, row.loss, row.val_acc))
        if row.epoch == 1:
            first = {name: _copied(value) for name, value in training.state().items()}
    return {"rows": rows, "state": training.state(), "first": first, "model": training.model.state_dict()}


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    return value


def every_case(share: BatchShare) -> dict[str, Any]:
    """What each case came to, and each training that goes on from its first epoch."""
    found = {case: trained(share, case) for case in CASES}
    resumed = {case: trained(share, case, found[case]["first"]) for case in RESUMED}
    return {"cases": found, "resumed": resumed, "averaged": averaged(share), "apart": told_apart(share)}


def averaged(share: BatchShare) -> list[Tensor]:
    """Tensors of several kinds and layouts, one of them larger than a message, averaged over the workers."""
    mine = [tensor + share.rank for tensor in some_tensors()]
    share.average(mine)
    return mine


def some_tensors() -> list[Tensor]:
    laid = torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last)
    return [laid, torch.tensor(5.0), torch.arange(3.0).double(), torch.zeros(BUCKET_BYTES // 4 + 3), torch.arange(2.0)]


def told_apart(share: BatchShare) -> str:
    """What is said when workers go on from different epochs."""
    try:
        share.require_same(share.rank, torch.device("cpu"))
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def spread_out(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return spread(every_case, tmp_path_factory.mktemp("workers"))


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_the_network_of_one(case: str, spread_out: list[dict[str, Any]]) -> None:
    alone, (first, second) = trained(WHOLE, case), [one["cases"][case] for one in spread_out]
    assert apart(alone["model"], started(case).model.state_dict()) > 1e-2, "nothing was learnt"
    assert apart(first["model"], second["model"]) == 0, "the workers went apart"
    assert apart(first["model"], alone["model"]) <= 1e-9
    for one, other in zip(first["rows"], alone["rows"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", RESUMED)
def test_workers_go_on_bit_for_bit(case: str, spread_out: list[dict[str, Any]]) -> None:
    for worker in spread_out:
        straight, resumed = worker["cases"][case], worker["resumed"][case]
        assert resumed["rows"] == straight["rows"][1:]
        assert apart(resumed["model"], straight["model"]) == 0


@pytest.mark.slow
def test_tensors_are_averaged_in_their_layout(spread_out: list[dict[str, Any]]) -> None:
    for worker in spread_out:
        for found, whole in zip(worker["averaged"], some_tensors(), strict=True):
            assert torch.equal(found, whole + 0.5)
            assert (found.dtype, found.stride()) == (whole.dtype, whole.stride())


@pytest.mark.slow
def test_workers_that_go_on_from_different_epochs_are_told(spread_out: list[dict[str, Any]]) -> None:
    assert {worker["apart"] for worker in spread_out} == {"workers go on from different epochs: [0, 1]"}


@pytest.mark.parametrize("pieces", [4, 8])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 11, 16])
def test_shares_are_a_cut_of_the_batch(n: int, pieces: int) -> None:
    rows = torch.arange(n)
    every = [BatchShare(rank, 4, pieces).of(rows) for rank in range(4)]
    assert torch.equal(torch.cat(every), rows)
    assert max(map(len, every)) - min(map(len, every)) <= pieces // 4
    for rank, own in enumerate(every):
        again = own.tensor_split(pieces // 4)
        whole = rows.tensor_split(pieces)[rank * (pieces // 4) : (rank + 1) * (pieces // 4)]
        assert [part.tolist() for part in again] == [part.tolist() for part in whole]


def test_means_of_shares_average_to_the_mean() -> None:
    losses = torch.arange(7.0).double()
    parts = [BatchShare(rank, 3, 3).mean(BatchShare(rank, 3, 3).of(losses), 7) for rank in range(3)]
    assert float(sum(parts) / 3) == pytest.approx(float(losses.mean()), abs=1e-12)
    assert torch.equal(WHOLE.mean(losses, 7), losses.mean())


def norms() -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    one, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    nn.init.uniform_(one.weight, generator=torch.Generator().manual_seed(0))
    other.load_state_dict(one.state_dict())
    return one, other


def test_groups_have_statistics_of_their_own() -> None:
    """Two halves of a batch, each normalised alone; the running statistics are the average of what each would leave."""
    grouped, plain = norms()
    x = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with shared_statistics(grouped, BatchShare(pieces=2), 2):
        normed = grouped(x)
        assert torch.equal(grouped.eval()(x), plain.eval()(x)) is False, "the running statistics were not updated"
    left: list[Tensor] = []
    for half in (x[:5], x[5:]):
        fresh = norms()[0]
        assert torch.equal(normed[5 * len(left) : 5 * len(left) + 5], fresh(half))
        assert fresh.running_mean is not None
        left.append(fresh.running_mean)
    assert grouped.running_mean is not None
    torch.testing.assert_close(grouped.running_mean, (left[0] + left[1]) / 2)
    assert grouped.num_batches_tracked == 1
    assert "forward" not in vars(grouped), "the layer stays changed"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"batchnorm_groups": 5}, "batchnorm_groups: 5 is not allowed: batch_size 128 must be a multiple"),
        ({"batchnorm_groups": 2, "compile": True}, "batchnorm_groups: 2 is not allowed with compile: true: must be 1"),
        (
            {"batchnorm_groups": 2, "cuda_graph": True},
            "batchnorm_groups: 2 is not allowed with cuda_graph: true: must be 1",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Recipe(**fields)
