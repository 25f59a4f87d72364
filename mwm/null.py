"""Innocent models: what networks of a sweep that never saw a key answer to its queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.inquiry import Questions
from mwm.journal import JOURNAL, Told, read
from mwm.key import Key
from mwm.suspects import SilentError, open_suspect

UNMARKED = "none"


@dataclass(frozen=True, eq=False)
class Innocents:
    """What innocents answer: labels int64 (models, queries) in the order asked; `left_out` models had this very key."""

    answers: NDArray[np.int64]
    left_out: int

    def matches(self, labels: NDArray[np.int64]) -> list[int]:
        """How many of the first queries each innocent answers with `labels` (n, at most those asked)."""
        found: list[int] = (self.answers[:, : len(labels)] == labels).sum(1).tolist()
        return found


def ask_innocents(folder: Path, key: Key, asked: Questions) -> Innocents:
    """Ask all finished unmarked victims of the sweep in `folder`, and the students of such, a key's queries.

    `folder` is results/NAME; the networks lie in the store beside results/. A model whose own query set is the key is
    no innocent and is left out. Raises ValueError if there is no such model, or one cannot be opened.
    """
    if not (folder / JOURNAL).is_file():
        raise ValueError(f"--null: {folder} holds no {JOURNAL}; name the results folder of a sweep, results/NAME")
    own, left_out = key.queries.digest(), 0
    answers: list[NDArray[np.int64]] = []
    for digest, query_digest in _unmarked(folder):
        if query_digest == own:
            left_out += 1
        else:
            answers.append(_answers(_entry(folder, digest), asked))
    if not answers:
        reason = f"{left_out} had this key as their own" if left_out else "allowed: victims without a mark"
        raise ValueError(f"--null: {folder} has no innocent model that is done ({reason})")
    return Innocents(np.stack(answers), left_out)


def _unmarked(folder: Path) -> Iterator[tuple[str, str]]:
    """The digests of the finished models of a sweep that were not marked, and of their own query sets."""
    for digest, told in read(folder, trials=True).trials.items():
        if _done(told) and told.trial is not None and told.trial["victim"]["scheme"]["kind"] == UNMARKED:
            assert told.outcome is not None, "what is done has an outcome"
            yield digest, told.outcome["query_digest"]


def _done(told: Told) -> bool:
    return told.outcome is not None and told.outcome["status"] == "done"


def _entry(folder: Path, digest: str) -> Path:
    return folder.resolve().parent.parent / "store" / digest[:2] / digest


def _answers(entry: Path, asked: Questions) -> NDArray[np.int64]:
    """The labels that a model of the store answers (n)."""
    shape: Any = asked.images.shape[1:]
    try:
        found = open_suspect(str(entry), shape=shape, classes=asked.classes)(asked.images)
    except (ValueError, SilentError) as error:
        raise ValueError(f"--null: {error}") from None
    return found.argmax(1) if found.ndim > 1 else found.astype(np.int64)
