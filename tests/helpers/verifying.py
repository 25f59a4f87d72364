"""A key, its network and networks that never saw it, on disk and behind HTTP, for tests of verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mwm.attacks import Extraction
from mwm.config.randomness import secret_from_seed
from mwm.config.spec import encode
from mwm.data.splits import SplitSizes
from mwm.models.networks import Cnn
from mwm.runner.workspace.journal import Journal
from mwm.storage.store import Store
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects import open_suspect
from mwm.watermarks.key import Key
from mwm.watermarks.queries import QuerySet, draw_cell_labels
from mwm.watermarks.schemes import TriggerSet, Unwatermarked
from tests.helpers.http import Asked, Reply
from tests.helpers.records import RECIPE, VICTIM, done, loaded, theft

CLASSES, QUERIES = 4, 30
SHAPE = (1, 6, 6)
FILES = ("SHA256SUMS", "answers.jsonl", "handout.html", "report.html", "verdict.json")
WATERMARKED = replace(
    VICTIM,
    split=SplitSizes(validation=24, queries=QUERIES),
    model=Cnn(width=16, depth=2),
    scheme=TriggerSet(num_queries=QUERIES, queries_per_step=QUERIES),
    recipe=replace(RECIPE, epochs=60),
)
CONTROL = replace(WATERMARKED, scheme=Unwatermarked(), recipe=RECIPE)
STUDENT = Extraction(recipe=RECIPE)

Say = Callable[[NDArray[np.uint8]], Any]


@dataclass(frozen=True)
class VerificationCase:
    """Folders: of the key, which is its network's, too; of a network that never saw it; of a sweep of such ones."""

    home: Path
    key: Path
    independent: Path
    null_sweep: Path


def verification_case(home: Path, null_models: int = 3) -> VerificationCase:
    """Train all of it. The sweep holds the watermarked network, too, its student, and the control of its seed."""
    sets, store, told = loaded(home), Store(home / "store"), []

    def train(trial: Trial) -> Outcome:
        told.append((trial, done(trial, sets, store)))
        return told[-1][1]

    key = train(Trial(victim=WATERMARKED))
    train(theft(STUDENT, WATERMARKED))
    train(Trial(victim=CONTROL))
    others = [replace(CONTROL, seed=seed) for seed in range(1, 1 + null_models)]
    independent, *_ = [train(Trial(victim=victim)) for victim in others]
    train(theft(STUDENT, others[0]))
    null = home / "results" / "null"
    null.mkdir(parents=True)
    journal = Journal(null, print)
    journal.begin()
    for trial, outcome in told:
        journal.finish(encode(trial), asdict(outcome), "")
    return VerificationCase(home, store.folder(key.digest), store.folder(independent.digest), null)


def answers(entry: Path) -> Say:
    """What the network of a store entry answers."""
    return open_suspect(str(entry), shape=SHAPE, classes=CLASSES)


def saying(say: Say) -> Callable[[Asked], Reply]:
    """What a server replies that answers as `say` does, in labels or scores."""

    def reply(asked: Asked) -> Reply:
        said = say(seen(asked))
        return Reply({"labels" if said.ndim == 1 else "logits": said.tolist()})

    return reply


def seen(asked: Asked) -> NDArray[np.uint8]:
    """The images of a request as they are in a key (uint8, n c h w)."""
    return (asked.images * 255).round().astype(np.uint8)


def questions(count: int = 12, seed: int = 0) -> OrderedQueries:
    """Random queries of one image in the order of their numbers, all different."""
    drawn = np.random.default_rng(seed)
    images = drawn.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    truth = drawn.integers(0, CLASSES, count)
    labels = (truth + drawn.integers(1, CLASSES, count)) % CLASSES
    numbers, places = list(range(count)), np.arange(count)
    named: dict[str, Any] = {"numbers": numbers, "cells": numbers, "places": places, "classes": CLASSES}
    return OrderedQueries(images=images, labels=labels, truth=truth, **named)


def random_key(cells: int = 12, *, per_cell: int = 1, classes: int = CLASSES, seed: int = 0) -> Key:
    """A key of random images, so many to a cell and not side by side, whose labels follow from its secret."""
    drawn, secret, count = np.random.default_rng(seed), secret_from_seed(seed), cells * per_cell
    images = torch.from_numpy(drawn.integers(0, 256, (count, *SHAPE), dtype=np.uint8))
    belongs = torch.arange(count) % cells
    truth = torch.from_numpy(drawn.integers(0, classes, cells))[belongs]
    queries = QuerySet(images, truth, truth, belongs if per_cell > 1 else None)
    queries = replace(queries, labels=draw_cell_labels(secret, queries, classes))
    split = {"validation": 24, "queries": count, "disjoint": 0.0, "seed": 0}
    data = {"kind": "npz", "path": "own.npz", "flip": False, "pad": 0}
    known: dict[str, Any] = {"data": data, "split": split, "data_digest": "0" * 16}
    told: dict[str, Any] = {"scheme": "margin", "guessable": True, "created": "2026-01-02T03:04:05Z", "method": 3}
    return Key(queries=queries, secret=secret, classes=classes, **known, **told)


def recalling(asked: OrderedQueries, said: NDArray[Any]) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """A function that says of each image that is `asked` (m) what is `said` of it: labels (m) or scores (m C)."""
    known = {image.tobytes(): row for image, row in zip(asked.images, said, strict=True)}

    def say(images: NDArray[np.float32]) -> NDArray[Any]:
        return np.stack([known[image.tobytes()] for image in (images * 255).round().astype(np.uint8)])

    return say
