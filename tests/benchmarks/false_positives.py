"""How often there are false positives: models that never saw a key, each judged by every test on keys of its own.

Every pair of a model and a key has labels of its own, so that, given the models, the pairs are independent and their
rate has an honest interval (Clopper and Pearson, 1934; for unequal chances it is only too wide: Hoeffding, 1956).
In the worst case a model is wrong on every query image: it answers with its best wrong class. A test keeps a level if
that is not below the interval of the rate. For tests of ranks the size that is attainable is told as well: p-values are
discrete, and given the answers the largest one that is not above the level is the chance of a false positive.

Scores that a suspect made up beside honest labels may at most double the p-value of its labels. Holm's method corrects
the decision on several suspects. The empirical null are the matches of all other models with the same key, as in a
verdict. It claims nothing of a model unlike those it is made of, which the worst case is: what it does there is shown
without a verdict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mwm.data.images import Augmentation, crop_and_flip
from mwm.stats.binomial import p_value
from mwm.stats.intervals import clopper_pearson
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.nonparametric import empirical_p_value, permutation_test
from mwm.watermarks.queries import draw_queries
from tests.benchmarks import bystanders
from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.forms import DOCTORED, FORMS, Asked, attainable, doctored, ranked

LEVELS = (0.05, 0.01, 1e-3)
TESTS = (
    *FORMS,
    "decision",
    *DOCTORED,
    "Holm",
    "sequential, labels",
    "sequential, scores",
    "permutation",
    "unconditional",
    "empirical",
)
CASES = ("as it is", "always wrong")
TOGETHER = 5
"""Suspects that are judged on one key and corrected by Holm's method."""

CONTROL = 7
"""How many models further the control is: one of another network and other data."""

CONFIDENCE = 0.99


@dataclass(frozen=True)
class Keys:
    """The keys of one model: labels and truth (keys n), and which of all images each query is (keys n)."""

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """What the tests say of one model: p-values (cases tests keys), and mean sizes (cases forms levels)."""

    p: NDArray[np.float64]
    sizes: NDArray[np.float64]


@cache
def shown() -> NDArray[np.uint8]:
    """Every image of the query source in every place where a key may show it (sources places c h w)."""
    images, pad = bystanders.grounds()[1].queries.images, bystanders.DATA.pad
    offsets = range(2 * pad + 1)
    each = torch.ones(len(images), dtype=torch.int64)
    places = [
        crop_and_flip(images, top=top * each, left=left * each, mirrored=None, pad=pad)
        for top in offsets
        for left in offsets
    ]
    return torch.stack(places, 1).numpy()


def keys(number: int, *, count: int, queries: int) -> Keys:
    """The keys on which model `number` is judged."""
    dataset, views = bystanders.grounds()
    augmentation = Augmentation(bystanders.DATA.flip, bystanders.DATA.pad)
    rows = {image.tobytes(): row for row, image in enumerate(shown().reshape(-1, *dataset.shape))}
    found = []
    for key in range(count):
        secret = hashlib.sha256(f"independent/{number}/{key}".encode()).digest()
        drawn = draw_queries(
            views.queries, num=queries, classes=dataset.classes, augmentation=augmentation, secret=secret
        )
        places = [rows[image.tobytes()] for image in drawn.images.numpy()]
        found.append((places, drawn.labels.tolist(), drawn.truth.tolist()))
    return Keys(*(np.array(part) for part in zip(*found, strict=True)))


def scored(number: int, *, epochs: int) -> NDArray[np.float32]:
    """Train model `number` and ask it for its scores on all images (sources places C)."""
    images = shown()
    answers = bystanders.answers(bystanders.independent(number, epochs), images.reshape(-1, *images.shape[2:]))
    return answers.reshape(*images.shape[:2], -1)


def judged(one: tuple[int, Keys], *, scores: NDArray[np.float32], rounds: int) -> Judged:
    """Everything on a model, as it is and always wrong, on each of its keys."""
    number, own = one
    p = np.empty((len(CASES), len(TESTS), len(own.labels)))
    sizes = np.zeros((len(CASES), len(FORMS), len(LEVELS)))
    for key in range(len(own.labels)):
        suspects, null = [*_asked(number, own, key=key, scores=scores)], _null(number, own, key=key, scores=scores)
        for case, answered in enumerate((suspects, [suspect.always_wrong() for suspect in suspects])):
            ranks = ranked(answered[0])
            p[case, : len(FORMS), key] = [form.p_value for form in ranks.values()]
            p[case, len(FORMS) :, key] = _decisions(answered, rounds=rounds, seed=key, null=null)
            sizes[case] += [attainable(form, LEVELS) for form in ranks.values()]
    return Judged(p, sizes / len(own.labels))


def _asked(number: int, own: Keys, *, key: int, scores: NDArray[np.float32]) -> Iterator[Asked]:
    """As many models as are judged together, as they answer a key of model `number`: this one first."""
    source, place = np.divmod(own.images[key], scores.shape[2])
    for one in (number + np.arange(TOGETHER)) % len(scores):
        views = scores[one, source].astype(np.float64)
        control = scores[(one + CONTROL) % len(scores), source, place].astype(np.float64)
        yield Asked(own.labels[key], own.truth[key], views[np.arange(len(place)), place], views, control)


def _null(number: int, own: Keys, *, key: int, scores: NDArray[np.float32]) -> list[int]:
    """How many labels of a key of model `number` each other model matches."""
    source, place = np.divmod(own.images[key], scores.shape[2])
    matches = (scores[:, source, place].argmax(2) == own.labels[key]).sum(1)
    found: list[int] = np.delete(matches, number).tolist()
    return found


def _decisions(answered: list[Asked], *, rounds: int, seed: int, null: list[int]) -> list[float]:
    """The p-values of the first model by the tests after `FORMS`."""
    asked, classes = answered[0], answered[0].scores.shape[1]
    decisions = [suspect.weigh(suspect.scores) for suspect in answered[:TOGETHER]]
    matches = int((asked.first == asked.labels).sum())
    return [
        decisions[0].p_value,
        *(asked.weigh(doctored(how, asked.scores)).p_value for how in DOCTORED),
        min(holm_adjust([one.p_value for one in decisions])),
        asked.weigh(asked.first).sequential(classes).p_value,
        decisions[0].sequential(classes).p_value,
        permutation_test(asked.first, asked.labels, asked.truth, rounds=rounds, seed=seed),
        p_value(matches, len(asked.labels), classes),
        empirical_p_value(matches, null),
    ]


def measured(*, models: int, keys_each: int, queries: int, rounds: int, epochs: int, processes: int) -> dict[str, Any]:
    """Rates of false positives under test, case and level; and how far made-up scores raise a p-value at most."""
    numbers = range(models)
    held = bystanders.spread(partial(keys, count=keys_each, queries=queries), numbers, processes)
    scores = np.stack(bystanders.spread(partial(scored, epochs=epochs), numbers, processes))
    work = partial(judged, scores=scores, rounds=rounds)
    found = bystanders.spread(work, list(enumerate(held)), processes)
    p, sizes = np.stack([one.p for one in found]), np.mean([one.sizes for one in found], axis=0)
    honest, made_up = p[:, :, [TESTS.index("labels")]], p[:, :, [TESTS.index(how) for how in DOCTORED]]
    return {
        "rates": {
            test: {
                case: {
                    str(level): rate(p[:, j, i] <= level, level)
                    | {"size": float(sizes[j, i, k]) if test in FORMS else None}
                    for k, level in enumerate(LEVELS)
                }
                for j, case in enumerate(CASES)
            }
            for i, test in enumerate(TESTS)
        },
        "made-up scores": {"largest factor": float((made_up / honest).max())},
    }


def rate(proven: NDArray[np.bool_], level: float) -> dict[str, Any]:
    """The rate of false positives (models keys), its interval, and the rate of the model that fares worst."""
    count, of = int(proven.sum()), proven.size
    low, high = clopper_pearson(count, of, CONFIDENCE)
    worst = float(proven.mean(1).max())
    found: dict[str, Any] = {"count": count, "of": of, "rate": count / of, "low": low, "high": high, "worst": worst}
    return found | {"kept": low <= level}


def lines(rates: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The rates as lines of a table."""
    for test, cases in rates.items():
        for case, levels in cases.items():
            silent = (test, case) == ("empirical", "always wrong")
            for level, one in levels.items():
                size = "" if one["size"] is None else f"{one['size']:.5f}"
                interval = f"{one['low']:.5f} to {one['high']:.5f}"
                verdict = "no claim" if silent else "kept" if one["kept"] else "BROKEN"
                yield test, case, level, f"{one['rate']:.5f}", interval, size, f"{one['worst']:.2f}", verdict


def main() -> None:
    """Train, judge, and print the rates."""
    command = parser((__doc__ or "").partition("\n")[0])
    command.add_argument("--models", type=int, default=204)
    command.add_argument("--keys", type=int, default=100, help="keys for each model")
    command.add_argument("--queries", type=int, default=100)
    command.add_argument("--rounds", type=int, default=999, help="permutations")
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
    title = f"{asked.models} independent models x {asked.keys} keys of {asked.queries} queries: false positives"
    interval = f"{CONFIDENCE:.0%} interval"
    names = ("test", "suspect", "level", "rate", interval, "attainable", "worst model", "level is")
    show(title, names, [*lines(found["rates"])])
    factor = found["made-up scores"]["largest factor"]
    print(f"Scores made up beside honest labels raise the p-value of the labels by a factor of {factor:.6f} at most.")
    publish(asked.output, here, found)


if __name__ == "__main__":
    main()
