"""Innocent models: what networks of a sweep that never saw a key answer to its queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mwm.runner.workspace.journal import JOURNAL, read_journal
from mwm.verification.questions import OrderedQueries
from mwm.verification.suspects import NoAnswerError, open_suspect
from mwm.watermarks.key import Key

UNMARKED = "none"


@dataclass(frozen=True, eq=False)
class NullAnswers:
    """What innocents answer: labels int64 (models, queries) in the order asked; `left_out` models had this very key.

    `names` are the digests of the models asked.
    """

    names: list[str]
    answers: NDArray[np.int64]
    left_out: int

    def matches(self, labels: NDArray[np.int64]) -> list[int]:
        """How many of the first queries each innocent answers with `labels` (n, at most those asked)."""
        found: list[int] = (self.answers[:, : len(labels)] == labels).sum(1).tolist()
        return found


def ask_null_models(folder: Path, key: Key, asked: OrderedQueries) -> NullAnswers:
    """Ask all finished unmarked victims of the sweep in `folder`, and the students of such, a key's queries.

    `folder` is results/NAME; the networks lie in the store beside results/. A model whose own query set is the key is
    no innocent and is left out. Raises ValueError if there is no such model, one cannot be opened, or one may have been
    trained on the key's images: with their true labels it matches less than an innocent does.
    """
    if not (folder / JOURNAL).is_file():
        raise ValueError(f"--null: {folder} holds no {JOURNAL}; name the results folder of a sweep, results/NAME")
    own, unmarked = key.queries.digest(), dict(unwatermarked_models(folder))
    others = {name: model for name, model in unmarked.items() if model.queries != own}
    left_out = len(unmarked) - len(others)
    if not others:
        reason = f"{left_out} had this key as their own" if left_out else "allowed: victims without a mark"
        raise ValueError(f"--null: {folder} has no innocent model that is done ({reason})")
    for name, model in others.items():
        _check_held_out(f"--null: {folder}: {name}", model, key)
    return NullAnswers(list(others), np.stack([_answers(_entry(folder, name), asked) for name in others]), left_out)


class _Model(NamedTuple):
    """The digests of a model's own query set and of its data, and how these were split."""

    queries: str
    data: str
    split: dict[str, Any]


def unwatermarked_models(folder: Path) -> Iterator[tuple[str, _Model]]:
    """The finished models of a sweep that were not marked, by their digests."""
    for name, told in read_journal(folder, trials=True).trials.items():
        trial, outcome = told.trial, told.outcome
        if not (trial and outcome and outcome["status"] == "done"):
            continue
        if trial["victim"]["scheme"]["kind"] == UNMARKED:
            yield name, _Model(outcome["query_digest"], outcome["data_digest"], trial["victim"]["split"])


def _check_held_out(whose: str, model: _Model, key: Key) -> None:
    """Raise ValueError unless the key's images were kept from a model as from the one that holds the key."""
    if model.data != key.data_digest:
        raise ValueError(f"{whose} has other data ({model.data}) than the key ({key.data_digest})")
    seed, aside = key.split["seed"], key.split["queries"]
    if model.split["seed"] != seed or model.split["queries"] < aside:
        needed = f"split.seed {seed} and split.queries of {aside} or more"
        raise ValueError(f"{whose} may have been trained on the key's images; needed: a sweep with {needed}")


def _entry(folder: Path, digest: str) -> Path:
    return folder.resolve().parent.parent / "store" / digest[:2] / digest


def _answers(entry: Path, asked: OrderedQueries) -> NDArray[np.int64]:
    """The labels that a model of the store answers (n)."""
    shape: Any = asked.images.shape[1:]
    try:
        found = open_suspect(str(entry), shape=shape, classes=asked.classes)(asked.images)
    except (ValueError, NoAnswerError) as error:
        raise ValueError(f"--null: {error}") from None
    return found.argmax(1) if found.ndim > 1 else found.astype(np.int64)
