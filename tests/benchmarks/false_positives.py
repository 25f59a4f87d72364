"""How often innocents are accused: models that never saw a key, each judged by every test on keys of its own.

Every pair of a model and a key has labels of its own, so that, given the models, the pairs are independent and their
rate has an honest interval (Clopper and Pearson, 1934; for unequal chances it is only too wide: Hoeffding, 1956).
In the worst case a model is wrong on every query image: it answers with its best wrong class. A test passes at a level
if the level is not below the interval of the rate. As in a verdict, the empirical null are the matches of all other
innocents with the same key, and Holm's method corrects the binomial test. The null claims nothing of a model unlike
those it is made of, which the worst case is: what it does there is shown without a verdict.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.data.images import Augmentation
from mwm.stats.binomial import p_value
from mwm.stats.intervals import clopper_pearson
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.nonparametric import empirical_p_value, permutation_test, rank_test
from mwm.stats.sequential import SequentialTest
from mwm.watermarks.queries import draw_queries
from tests.benchmarks import bystanders
from tests.benchmarks.bench import machine, parser, publish, show

LEVELS = (0.05, 0.01, 1e-3)
TESTS = ("binomial", "permutation", "rank", "sequential", "empirical", "holm")
CASES = ("as it is", "always wrong")
TOGETHER = 5
"""Suspects that are judged on one key and corrected by Holm's method."""

CONFIDENCE = 0.99


@dataclass(frozen=True)
class Keys:
    """The keys of one model: labels and truth (keys n), and which of the distinct images each query is (keys n)."""

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64]


def keys(number: int, *, count: int, queries: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The keys on which innocent `number` is judged: images (keys n c h w), labels and truth (keys n)."""
    dataset, views = bystanders.grounds()
    found = [
        draw_queries(
            views.queries,
            num=queries,
            classes=dataset.classes,
            augmentation=Augmentation(bystanders.DATA.flip, bystanders.DATA.pad),
            secret=hashlib.sha256(f"innocents/{number}/{key}".encode()).digest(),
        )
        for key in range(count)
    ]
    images, labels, truth = ([getattr(one, name).numpy() for one in found] for name in ("images", "labels", "truth"))
    return np.stack(images), np.stack(labels), np.stack(truth)


def scored(number: int, *, images: NDArray[np.uint8], epochs: int) -> NDArray[np.float32]:
    """Train innocent `number` and ask it for its scores on all images of all keys (images C)."""
    return bystanders.answers(bystanders.innocent(number, epochs), images)


def judged(one: tuple[int, Keys], *, scores: NDArray[np.float32], rounds: int) -> NDArray[np.float64]:
    """P-values of an innocent, as it is and always wrong, by every test on each of its keys (cases tests keys)."""
    number, own = one
    found = np.empty((len(CASES), len(TESTS), len(own.labels)))
    group = (number + np.arange(TOGETHER)) % len(scores)
    for key, (rows, labels, truth) in enumerate(zip(own.images, own.labels, own.truth, strict=True)):
        asked = scores[:, rows].astype(np.float64)
        wrong = asked.copy()
        wrong[:, np.arange(len(rows)), truth] = -np.inf
        null = np.delete(matches(asked, labels), number)
        for case, seen in enumerate((asked, wrong)):
            counts = matches(seen, labels)
            found[case, :, key] = (
                *_judged(seen[number], labels, truth, rounds=rounds, seed=key),
                empirical_p_value(int(counts[number]), null),
                min(holm_adjust([p_value(count, len(labels), seen.shape[2]) for count in counts[group].tolist()])),
            )
    return found


def _judged(
    scores: NDArray[np.float64], labels: NDArray[np.int64], truth: NDArray[np.int64], *, rounds: int, seed: int
) -> list[float]:
    answers = scores.argmax(1)
    matched = answers == labels
    one_by_one = SequentialTest(scores.shape[1])
    for match in matched:
        one_by_one.add(bool(match))
    return [
        p_value(int(matched.sum()), len(labels), scores.shape[1]),
        permutation_test(answers, labels, truth, rounds=rounds, seed=seed),
        rank_test(scores, labels, truth),
        one_by_one.p_value,
    ]


def matches(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the labels (n) each model (scores m n C) answers (m)."""
    counts: NDArray[np.int64] = (scores.argmax(2) == labels).sum(1)
    return counts


def measured(
    *, models: int, keys_each: int, queries: int, rounds: int, epochs: int, processes: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Rates of accusation under test, case and level."""
    numbers = range(models)
    drawn = bystanders.spread(partial(keys, count=keys_each, queries=queries), numbers, processes)
    shape = drawn[0][0].shape[2:]
    images, places = np.unique(np.stack([one[0] for one in drawn]).reshape(-1, *shape), axis=0, return_inverse=True)
    rows = places.reshape(models, keys_each, queries)
    held = [Keys(rows[number], labels, truth) for number, (_, labels, truth) in enumerate(drawn)]
    scores = np.stack(bystanders.spread(partial(scored, images=images, epochs=epochs), numbers, processes))
    work = partial(judged, scores=scores, rounds=rounds)
    found = np.stack(bystanders.spread(work, list(enumerate(held)), processes))
    return {
        test: {
            case: {str(level): rate(found[:, j, i] <= level, level) for level in LEVELS} for j, case in enumerate(CASES)
        }
        for i, test in enumerate(TESTS)
    }


def rate(accused: NDArray[np.bool_], level: float) -> dict[str, Any]:
    """The rate of accusations (models keys), its interval, and the rate of the model that fares worst."""
    count, of = int(accused.sum()), accused.size
    low, high = clopper_pearson(count, of, CONFIDENCE)
    worst = float(accused.mean(1).max())
    return {
        "accused": count,
        "of": of,
        "rate": count / of,
        "low": low,
        "high": high,
        "worst": worst,
        "kept": low <= level,
    }


def main() -> None:
    """Train, judge, and print the rates."""
    command = parser((__doc__ or "").partition("\n")[0])
    command.add_argument("--models", type=int, default=204)
    command.add_argument("--keys", type=int, default=100, help="keys for each model")
    command.add_argument("--queries", type=int, default=100)
    command.add_argument("--rounds", type=int, default=1999, help="permutations")
    command.add_argument("--epochs", type=int, default=bystanders.EPOCHS)
    command.add_argument("--processes", type=int, default=2)
    asked, here = command.parse_args(), machine()
    found = measured(
        models=asked.models,
        keys_each=asked.keys,
        queries=asked.queries,
        rounds=asked.rounds,
        epochs=asked.epochs,
        processes=asked.processes,
    )
    lines = [
        (
            test,
            case,
            level,
            f"{one['rate']:.5f}",
            f"{one['low']:.5f} to {one['high']:.5f}",
            f"{one['worst']:.2f}",
            "no claim" if (test, case) == ("empirical", "always wrong") else "kept" if one["kept"] else "BROKEN",
        )
        for test, cases in found.items()
        for case, levels in cases.items()
        for level, one in levels.items()
    ]
    title = f"{asked.models} innocents x {asked.keys} keys of {asked.queries} queries: accusations"
    show(title, ("test", "suspect", "level", "rate", f"{CONFIDENCE:.0%} interval", "worst model", "level is"), lines)
    publish(asked.output, here, {"rates": found})


if __name__ == "__main__":
    main()
