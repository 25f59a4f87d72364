"""False claims: a cheat who picks queries after seeing an innocent model, what stops that, and what nothing stops.

First table. Four ways to pick, each with one innocent at hand (or five) and tried on it and on all other innocents:
images that it reads rightly, with a false true label; images that it misreads; images changed until it does (ascent on
its loss). Three ways to dress that up as a key: labels of one's own; images picked so that the labels are those of a
secret; data made up so that a secret draws just these images and labels. The plain binomial test accuses. What stops
the claim: `key.load` where the labels are not those of the secret, `key.recompute` where the images are not those of
the secret and the data; data made up only fail where the data were known before.

Second table. Within the rule a cheat may still search for a secret: on a model of its own before the commitment (then
it is "others" that are accused), or after, by many commitments of which one is opened ("itself"). Of S secrets one
gains a factor S at most.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mwm.config.randomness import make_generator, secret_from_seed
from mwm.config.spec import encode
from mwm.data.datasets import Dataset, Npz, array_digest
from mwm.data.images import Augmentation, to_float
from mwm.data.splits import LabeledImages, split
from mwm.stats.binomial import p_value
from mwm.stats.intervals import clopper_pearson
from mwm.training.perturbation import projected_gradient_ascent
from mwm.watermarks import key as keys
from mwm.watermarks.queries import QuerySet, draw_queries, draw_wrong_labels
from tests.benchmarks import bystanders
from tests.benchmarks.bench import machine, parser, publish, show
from tests.helpers.keyed import save

LEVELS = (1e-3, 1e-6, 1e-9)
QUERIES = 30
STEP, STEPS = 8 / 255, 10
"""How far the cheat moves an image: visibly."""

WAYS = {"mislabelled": 1, "misread": 1, "changed": 1, "changed on five": 5}
"""How the cheat picks, and how many innocents it has at hand."""

FORGERIES = ("own labels", "secret's labels", "made-up data")
WHOM = ("itself", "others")
SHOWN = (("match", ""), ("accused", " 0.001"), ("accused", " 1e-09"))
CASES = ("as it is", "always wrong")
PIECE = 10_000
"""Secrets tried at a time."""


@dataclass(frozen=True)
class Finds:
    """Images uint8 n c h w, the true labels that the cheat gives them, and what the models at hand answer (int64 n)."""

    images: Tensor
    truth: Tensor
    answers: Tensor

    def __getitem__(self, rows: Any) -> Finds:
        return Finds(self.images[rows], self.truth[rows], self.answers[rows])


@cache
def hunting_ground(count: int) -> LabeledImages:
    """Where the cheat looks: `count` of the query source at each of nine places, and the test images."""
    _, views = bystanders.grounds()
    places = [views.queries.images.roll((down, right), (2, 3)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    images = torch.cat([*places, views.test.images])
    labels = torch.cat([*[views.queries.labels] * len(places), views.test.labels])
    order = torch.randperm(len(images), generator=make_generator(0, "hunting"))[:count]
    return LabeledImages(images[order], labels[order])


def found(way: str, models: Sequence[nn.Module], ground: LabeledImages) -> Finds:
    """What is of use to the cheat, the surest first: the models at hand differ from what it says is true."""
    images, truth = ground.images, ground.labels

    def each(x: Tensor) -> Tensor:
        return torch.stack([model(x).log_softmax(1) for model in models])

    if way.startswith("changed"):
        images = (
            (
                projected_gradient_ascent(
                    lambda x: each(x).mean(0), to_float(images), truth, step_size=STEP, steps=STEPS
                )
                * 255
            )
            .round()
            .to(torch.uint8)
        )
    with torch.no_grad():
        least, answers = each(to_float(images)).min(0).values.max(1)
    surest = least.argsort(descending=True)
    finds = Finds(images, truth, answers)[surest]
    if way == "mislabelled":
        right = finds[finds.answers == finds.truth]
        return replace(right, truth=(right.truth - 1) % 10)
    return finds[finds.answers != finds.truth]


def fitted(finds: Finds, steps: Tensor, *, free: bool) -> Finds:
    """Finds in an order in which the secret's labels, truth + `steps` (n), are the answers; where none fits, any.

    If `free`, the true labels are up to the cheat and everything fits.
    """
    if free:
        first = finds[: len(steps)]
        return replace(first, truth=(first.answers - steps) % 10)
    shelf: dict[int, list[int]] = {}
    for row, step in enumerate(((finds.answers - finds.truth) % 10).tolist()):
        shelf.setdefault(step, []).append(row)
    rows = []
    for step in steps.tolist():
        fits = shelf.get(step) or max(shelf.values(), key=len)
        rows.append(fits.pop(0))
    return finds[rows]


def forged(way: str, finds: Finds, secret: bytes) -> dict[str, tuple[keys.Key, Dataset]]:
    """The same finds as a key in each of three ways, with the data that the cheat shows for it."""
    dataset, _ = bystanders.grounds()
    plain = finds[:QUERIES]
    steps = draw_wrong_labels(secret, torch.zeros(QUERIES, dtype=torch.int64), 10)
    fit = fitted(finds, steps, free=way == "mislabelled")
    own = QuerySet(plain.images, plain.answers, plain.truth)
    right = QuerySet(fit.images, draw_wrong_labels(secret, fit.truth, 10), fit.truth)
    first = keys.Key(
        queries=own,
        secret=secret,
        classes=10,
        scheme="margin",
        data=encode(bystanders.DATA),
        split=encode(bystanders.SPLIT),
        data_digest=dataset.digest,
        guessable=False,
        created="2026-01-01T00:00:00Z",
        method=1,
    )
    invented = made_up(right, secret)
    data = encode(Npz(path="invented.npz", flip=False, pad=0))
    last = replace(first, queries=right, data=data, data_digest=invented.digest)
    return dict(
        zip(FORGERIES, ((first, dataset), (replace(first, queries=right), dataset), (last, invented)), strict=True)
    )


def made_up(wanted: QuerySet, secret: bytes) -> Dataset:
    """Data from which the secret draws just these queries: theirs are put where the secret will look."""
    dataset, _ = bystanders.grounds()
    images, labels = dataset.x_train.copy(), dataset.y_train.copy()
    images[:] = 0
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(images)), 256)
    probe = split(replace(dataset, x_train=images), bystanders.SPLIT, "cpu").queries
    drawn = (
        draw_queries(probe, num=len(wanted), classes=10, augmentation=Augmentation(flip=False, pad=0), secret=secret)
        .images[:, 0, 0]
        .long()
    )
    rows = (256 * drawn[:, 0] + drawn[:, 1]).numpy()
    images = dataset.x_train.copy()
    images[rows], labels[rows] = wanted.images.numpy(), wanted.truth.numpy()
    test = dataset.x_test, dataset.y_test
    return Dataset(images, labels, *test, classes=10, digest=array_digest(images, labels, *test))


def stopped(key: keys.Key, shown: Dataset) -> str:
    """What refuses a key: reading it, drawing it again from the data shown, or knowing what the data were."""
    known, _ = bystanders.grounds()
    with tempfile.TemporaryDirectory() as folder:
        save(key, Path(folder))
        try:
            keys.verify_derivation(keys.load_key(folder), shown)
        except ValueError as error:
            return "recompute" if "from the data" in str(error) else "load"
    return "nothing" if shown.digest == known.digest else "known data"


def claimed(number: int, *, models: Sequence[nn.Module], ground: LabeledImages) -> list[dict[str, Any]]:
    """Every claim made with innocent `number` (and the next ones) at hand: whom it accuses, and what stops it."""
    lines = []
    for way, count in WAYS.items():
        at_hand = [(number + k) % len(models) for k in range(count)]
        finds = found(way, [models[k] for k in at_hand], ground)
        for forgery, (key, shown) in forged(way, finds, secret_from_seed(number)).items():
            images, labels = key.queries.images.numpy(), key.queries.labels.numpy()
            matches = [int((bystanders.answers(model, images).argmax(1) == labels).sum()) for model in models]
            p = [p_value(m, len(labels), 10) for m in matches]
            others = [k for k in range(len(models)) if k not in at_hand]
            line: dict[str, Any] = {"way": way, "forgery": forgery, "stopped by": stopped(key, shown)}
            for whom, these in zip(WHOM, (at_hand, others), strict=True):
                line[f"match {whom}"] = fmean(matches[k] for k in these) / len(labels)
                for level in LEVELS:
                    line[f"accused {whom} {level:g}"] = fmean(p[k] <= level for k in these)
            lines.append(line)
    return lines


def searched(
    repeat: int, *, answers: NDArray[np.int64], truth: NDArray[np.int64], secrets: Sequence[int]
) -> list[list[float]]:
    """P-values of a search for a secret on one innocent: for each number of secrets, of itself and of another.

    `answers` (models images) and `truth` (images) are those of the hunting ground; secrets are drawn by a generator in
    place of HMAC, and images with replacement, which changes nothing for the labels.
    """
    rng = np.random.default_rng(repeat)
    itself, other = rng.choice(len(answers), 2, replace=False)
    best, kept, tried, found = -1, (truth[:0], truth[:0]), 0, []
    for count in secrets:
        while tried < count:
            size = min(PIECE, count - tried)
            images = rng.integers(0, len(truth), (size, QUERIES))
            labels = (truth[images] + rng.integers(1, 10, (size, QUERIES))) % 10
            matches = (answers[itself][images] == labels).sum(1)
            tried, top = tried + size, int(matches.argmax())
            if matches[top] > best:
                best, kept = int(matches[top]), (images[top], labels[top])
        elsewhere = int((answers[other][kept[0]] == kept[1]).sum())
        found.append([p_value(best, QUERIES, 10), p_value(elsewhere, QUERIES, 10)])
    return found


def measured(
    *, models: int, epochs: int, images: int, secrets: Sequence[int], repeats: int, processes: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Both tables; `images` is how many the cheat looks at."""
    ground = hunting_ground(images)
    innocents = bystanders.spread(partial(bystanders.innocent, epochs=epochs), range(models), processes)
    cheat = partial(claimed, models=innocents, ground=ground)
    claims = chain.from_iterable(bystanders.spread(cheat, range(models), processes))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for claim in claims:
        groups.setdefault((claim["way"], claim["forgery"]), []).append(claim)
    first = [_mean(group) for group in groups.values()]
    scores = np.stack([bystanders.answers(model, ground.images.numpy()) for model in innocents])
    truth = ground.labels.numpy()
    second = []
    for case in CASES:
        if case == "always wrong":
            scores[:, np.arange(len(truth)), truth] = -np.inf
        search = partial(searched, answers=scores.argmax(2), truth=truth, secrets=secrets)
        p = np.array(bystanders.spread(search, range(repeats), processes))
        second += [_gain(case, count, p[:, place]) for place, count in enumerate(secrets)]
    return first, second


def _mean(claims: Sequence[dict[str, Any]]) -> dict[str, Any]:
    one = claims[0]
    stops = sorted({claim["stopped by"] for claim in claims})
    line = {"way": one["way"], "forgery": one["forgery"], "claims": len(claims), "stopped by": ", ".join(stops)}
    return line | {name: fmean(claim[name] for claim in claims) for name in one if name not in line}


def _gain(case: str, secrets: int, p: NDArray[np.float64]) -> dict[str, Any]:
    """How often the best of so many secrets accuses the model it was sought on, and another (repeats 2)."""
    line: dict[str, Any] = {"case": case, "secrets": secrets, "repeats": len(p)}
    for column, whom in enumerate(WHOM):
        for level in LEVELS:
            count = int((p[:, column] <= level).sum())
            line[f"{whom} {level:g}"] = {"rate": count / len(p), "interval": clopper_pearson(count, len(p))}
    return line


def main() -> None:
    """Cheat, and print how far one gets."""
    command = parser((__doc__ or "").partition("\n")[0])
    command.add_argument("--models", type=int, default=40)
    command.add_argument("--epochs", type=int, default=bystanders.EPOCHS)
    command.add_argument("--images", type=int, default=2000, help="how many the cheat looks at")
    command.add_argument("--secrets", type=int, nargs="+", default=[1, 100, 1000, 10_000, 100_000])
    command.add_argument("--repeats", type=int, default=400)
    command.add_argument("--processes", type=int, default=2)
    asked, here = command.parse_args(), machine()
    first, second = measured(
        models=asked.models,
        epochs=asked.epochs,
        images=asked.images,
        secrets=asked.secrets,
        repeats=asked.repeats,
        processes=asked.processes,
    )
    names = [f"{what} {whom}{at}" for what, at in SHOWN for whom in WHOM]
    title = f"{asked.models} claims of each kind of {QUERIES} queries: share matched, and share accused at p ≤ ..."
    lines = [(one["way"], one["forgery"], *(f"{one[name]:.3f}" for name in names), one["stopped by"]) for one in first]
    headings = [f"{whom}\n{at or 'match'}" for _, at in SHOWN for whom in WHOM]
    show(title, ("way", "key", *headings, "stopped by"), lines)
    names = [f"{whom} {level:g}" for level in LEVELS for whom in WHOM]
    rows = [(one["case"], f"{one['secrets']:,}", *(f"{one[name]['rate']:.4f}" for name in names)) for one in second]
    show(f"the best of so many secrets, {asked.repeats} searches: shares accused", ("suspect", "secrets", *names), rows)
    publish(asked.output, here, {"claims": first, "searches": second})


if __name__ == "__main__":
    main()
