"""False claims: a claimant who picks queries after seeing an independent model, what stops that, and what does not.

First table. Four ways to pick, each with one independent model at hand (or five) and tried on it and on all others:
images that it reads rightly, with a false true label; images that it misreads; images changed until it does (ascent on
its loss). Three ways to dress that up as a key: labels of one's own; images picked so that the labels are those of a
secret; data made up so that a secret draws just these images and labels. The exact test of ranks then proves. What
stops the claim: `key.load` where the labels are not those of the secret, `key.recompute` where the images are not those
of the secret and the data; data made up only fail where the data were known before.

Second table. Within the rule a claimant may still search for a secret: on a model of its own before the commitment
(then it is proven against "others"), or after, by many commitments of which one is opened ("itself"). Of S secrets one
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
from torch import Tensor, nn

from mwm.config.randomness import make_generator, secret_from_seed
from mwm.config.spec import encode
from mwm.data.datasets import Dataset, Npz, array_digest
from mwm.data.images import Augmentation, to_float
from mwm.data.splits import LabeledImages, split
from mwm.training.perturbation import projected_gradient_ascent
from mwm.watermarks import key as keys
from mwm.watermarks.evidence import weigh
from mwm.watermarks.queries import QuerySet, draw_queries, draw_wrong_labels
from tests.benchmarks import bystanders
from tests.benchmarks.bench import machine, parser, publish, show
from tests.benchmarks.searches import LEVELS, QUERIES, WHOM, searches
from tests.helpers.keyed import save

STEP, STEPS = 8 / 255, 10
"""How far the claimant moves an image: visibly."""

WAYS = {"mislabelled": 1, "misread": 1, "changed": 1, "changed on five": 5}
"""How the claimant picks, and how many independent models it has at hand."""

FORGERIES = ("own labels", "secret's labels", "made-up data")
SHOWN = (("match", ""), ("proven", " 0.001"), ("proven", " 1e-09"))


@dataclass(frozen=True)
class Finds:
    """Images uint8 n c h w, their true labels as the claimant has them, and answers of the models at hand (int64 n)."""

    images: Tensor
    truth: Tensor
    answers: Tensor

    def __getitem__(self, rows: Any) -> Finds:
        return Finds(self.images[rows], self.truth[rows], self.answers[rows])


@cache
def hunting_ground(count: int) -> LabeledImages:
    """Where the claimant looks: `count` of the query source at each of nine places, and the test images."""
    _, views = bystanders.grounds()
    places = [views.queries.images.roll((down, right), (2, 3)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    images = torch.cat([*places, views.test.images])
    labels = torch.cat([*[views.queries.labels] * len(places), views.test.labels])
    order = torch.randperm(len(images), generator=make_generator(0, "hunting"))[:count]
    return LabeledImages(images[order], labels[order])


def found(way: str, models: Sequence[nn.Module], ground: LabeledImages) -> Finds:
    """What is of use to the claimant, the surest first: the models at hand differ from what it says is true."""
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

    If `free`, the true labels are up to the claimant and everything fits.
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
    """The same finds as a key in each of three ways, with the data that the claimant shows for it."""
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
    """Every claim made with model `number` (and the next ones) at hand: against whom it holds, and what stops it."""
    lines = []
    for way, count in WAYS.items():
        at_hand = [(number + k) % len(models) for k in range(count)]
        finds = found(way, [models[k] for k in at_hand], ground)
        for forgery, (key, shown) in forged(way, finds, secret_from_seed(number)).items():
            answers = [bystanders.answers(model, key.queries.images.numpy()).astype(np.float64) for model in models]
            labels, truth = key.queries.labels.numpy(), key.queries.truth.numpy()
            p = [weigh(scores, labels, truth, classes=10).p_value for scores in answers]
            matches = [float((scores.argmax(1) == labels).mean()) for scores in answers]
            others = [k for k in range(len(models)) if k not in at_hand]
            line: dict[str, Any] = {"way": way, "forgery": forgery, "stopped by": stopped(key, shown)}
            for whom, these in zip(WHOM, (at_hand, others), strict=True):
                line[f"match {whom}"] = fmean(matches[k] for k in these)
                for level in LEVELS:
                    line[f"proven {whom} {level:g}"] = fmean(p[k] <= level for k in these)
            lines.append(line)
    return lines


def measured(
    *, models: int, epochs: int, images: int, secrets: Sequence[int], repeats: int, processes: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Both tables; `images` is how many the claimant looks at."""
    ground = hunting_ground(images)
    independent = bystanders.spread(partial(bystanders.independent, epochs=epochs), range(models), processes)
    claim = partial(claimed, models=independent, ground=ground)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in chain.from_iterable(bystanders.spread(claim, range(models), processes)):
        groups.setdefault((one["way"], one["forgery"]), []).append(one)
    scores = np.stack([bystanders.answers(model, ground.images.numpy()) for model in independent])
    second = searches(scores, ground.labels.numpy(), secrets=secrets, repeats=repeats, processes=processes)
    return [_mean(group) for group in groups.values()], second


def _mean(claims: Sequence[dict[str, Any]]) -> dict[str, Any]:
    one = claims[0]
    stops = sorted({claim["stopped by"] for claim in claims})
    line = {"way": one["way"], "forgery": one["forgery"], "claims": len(claims), "stopped by": ", ".join(stops)}
    return line | {name: fmean(claim[name] for claim in claims) for name in one if name not in line}


def main() -> None:
    """Make the claims, and print how far they get."""
    command = parser((__doc__ or "").partition("\n")[0])
    command.add_argument("--models", type=int, default=40)
    command.add_argument("--epochs", type=int, default=bystanders.EPOCHS)
    command.add_argument("--images", type=int, default=2000, help="how many the claimant looks at")
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
    title = f"{asked.models} claims of each kind of {QUERIES} queries: share matched, and share proven at p ≤ ..."
    lines = [(one["way"], one["forgery"], *(f"{one[name]:.3f}" for name in names), one["stopped by"]) for one in first]
    headings = [f"{whom}{at or ' match'}" for _, at in SHOWN for whom in WHOM]
    show(title, ("way", "key", *headings, "stopped by"), lines)
    names = [f"{whom} {level:g}" for level in LEVELS for whom in WHOM]
    rows = [
        (one["case"], one["form"], f"{one['secrets']:,}", *(f"{one[name]['rate']:.4f}" for name in names))
        for one in second
    ]
    title = f"the best of so many secrets, {asked.repeats} searches: shares proven"
    show(title, ("suspect", "answers", "secrets", *names), rows)
    publish(asked.output, here, {"claims": first, "searches": second})


if __name__ == "__main__":
    main()
