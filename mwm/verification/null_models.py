"""Null models: what networks that never saw a key answer to its queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mwm.verification.questions import OrderedQueries
from mwm.verification.suspects.outputs import NoAnswerError, Suspect


@dataclass(frozen=True, eq=False)
class NullAnswers:
    """What null models answer: labels int64 (models, queries) in the order asked; `identities` tell who was asked."""

    identities: list[str]
    answers: NDArray[np.int64]

    def matches(self, labels: NDArray[np.int64]) -> list[int]:
        """How many of the first queries each null model answers with `labels` (n, at most those asked)."""
        found: list[int] = (self.answers[:, : len(labels)] == labels).sum(1).tolist()
        return found


def ask_null_models(models: Sequence[Suspect], asked: OrderedQueries) -> NullAnswers:
    """Ask null models a key's queries.

    Whoever names them answers for it that none was trained on the key, nor on its images: with their true labels a
    model matches less than an independent one does. Raises ValueError if one does not answer.
    """
    return NullAnswers([model.identity for model in models], np.stack([_answers(model, asked) for model in models]))


def _answers(model: Suspect, asked: OrderedQueries) -> NDArray[np.int64]:
    """The labels that a null model answers (n)."""
    try:
        found = model(asked.images)
    except (ValueError, NoAnswerError) as error:
        raise ValueError(f"null_models: {error}") from None
    return found.argmax(1) if found.ndim > 1 else found.astype(np.int64)
