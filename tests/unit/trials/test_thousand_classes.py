"""A thousand classes through training, key, attack and verdict: no label is cut to a byte anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mwm
from mwm.data.datasets import ArrayData
from mwm.stats.rank_sum import RankSum
from mwm.trials.scoring import on_smaller_key
from mwm.watermarks.key import commitment, load_key, to_files, verify_derivation

pytestmark = pytest.mark.slow

CLASSES = 1000
SPLIT = {"validation": 50, "queries": 6500}


@pytest.fixture(scope="module")
def data() -> ArrayData:
    """Seven training images of each class, one in a colour of its own, and named classes."""
    drawn = np.random.default_rng(0)
    labels = {"train": np.repeat(np.arange(CLASSES), 7), "test": np.arange(CLASSES)}
    found: dict[str, Any] = {f"y_{part}": values for part, values in labels.items()}
    for part, values in labels.items():
        colours = np.stack([values % 10, values // 10 % 10, values // 100], 1) * 25 + 5
        noisy = colours[:, None, None, :] + drawn.integers(0, 10, (len(values), 4, 4, 3))
        found[f"x_{part}"] = noisy.astype(np.uint8)
    return mwm.Arrays(**found, class_names=[f"thing {number}" for number in range(CLASSES)], flip=False, pad=0)


def trained(data: ArrayData, scheme: Any, store: Path) -> mwm.TrainedVictim:
    recipe = mwm.Recipe(epochs=2, batch_size=100, lr=0.1, momentum=0.9)
    model = mwm.Cnn(width=8, depth=1)
    return mwm.train_victim(data=data, split=SPLIT, model=model, scheme=scheme, recipe=recipe, store=store)


def answers(truth: NDArray[Any], images: NDArray[Any], asked: NDArray[Any]) -> NDArray[Any]:
    """The class that goes with each image asked, among images (uint8 n c h w)."""
    known = {image.tobytes(): label for image, label in zip(images, truth.tolist(), strict=True)}
    return np.array([known[(image * 255).round().astype(np.uint8).tobytes()] for image in asked])


def test_a_key_of_queries(data: ArrayData, tmp_path: Path) -> None:
    victim = trained(data, mwm.Margin(num_queries=40, queries_per_step=20, steps=1), tmp_path / "store")
    key, outcome = victim.key, victim.outcome
    assert outcome.classes == key.classes == CLASSES
    assert int(key.queries.labels.max()) > 255
    (tmp_path / "key").mkdir()
    for name, content in to_files(key).items():
        (tmp_path / "key" / name).write_bytes(content)
    assert commitment(load_key(tmp_path / "key")) == commitment(key)
    assert data.dataset is not None
    verify_derivation(key, data.dataset)
    ranks = RankSum.unpack(outcome.score_ranks, CLASSES)
    assert ranks.log10_p == outcome.log10_p_scores
    assert (len(ranks), sum(ranks[0].ties)) == (40, CLASSES - 1)
    assert on_smaller_key(outcome, 10).query_hits == outcome.query_hits[:10]
    images, labels, truth = (tensor.numpy() for tensor in (key.queries.images, key.queries.labels, key.queries.truth))
    proven = mwm.verify(key, lambda asked: answers(labels, images, asked), accuracy_bound=0)
    assert proven.decision == "proven"
    assert proven.suspects[0].p_value == pytest.approx((CLASSES - 1.0) ** -40)
    honest = mwm.verify(key, lambda asked: answers(truth, images, asked), output=tmp_path / "honest")
    assert (honest.decision, honest.suspects[0].matches) == ("not proven", 0)
    cut = mwm.verify(key, lambda asked: answers(labels % 256, images, asked), accuracy_bound=0)
    assert cut.suspects[0].matches == int((labels < 256).sum()) < 40
    assert mwm.verify(key, victim.model, accuracy_bound=0).suspects[0].p_value == pytest.approx(outcome.p_value)
    student = mwm.run_attack(victim, mwm.Extraction(labels="hard", recipe=mwm.Recipe(epochs=1, batch_size=100)))
    assert student.outcome.oracle_calls is not None


def test_a_key_of_classes(data: ArrayData, tmp_path: Path) -> None:
    """A thousand cells, and a control that is measured on the same key."""
    victim = trained(data, mwm.Confusion(), tmp_path)
    assert victim.key.queries.num_cells == CLASSES
    assert len(RankSum.unpack(victim.outcome.label_ranks, CLASSES)) == CLASSES
    control = trained(data, "none", tmp_path)
    assert len(RankSum.unpack(control.outcome.class_score_ranks, CLASSES)) == CLASSES
    assert control.outcome.class_query_hits.count("1") < 20, "a key that it was not taught"
    images, labels = victim.key.queries.images.numpy(), victim.key.queries.labels.numpy()
    verdict = mwm.verify(victim.key, lambda asked: answers(labels, images, asked), accuracy_bound=0)
    assert verdict.decision == "proven"
