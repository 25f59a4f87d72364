"""Null models: what networks that never saw a key answer to its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mwm.verification.querying.answer_log import Answers
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects.outputs import NoAnswerError, Suspect


@dataclass(frozen=True, eq=False)
class NullAnswers:
    """For what null models take cells: int64 (models, cells) in the order asked; `identities` tell who was asked."""

    identities: list[str]
    choices: NDArray[np.int64]

    def matches(self, labels: NDArray[np.int64]) -> list[int]:
        """How many of the first cells each null model takes for their `labels` (n, at most those asked)."""
        found: list[int] = (self.choices[:, : len(labels)] == labels).sum(1).tolist()
        return found


def ask_null_models(models: Sequence[Suspect], asked: OrderedQueries) -> NullAnswers:
    """Ask null models a key's images, as they are.

    Whoever names them answers for it that none was trained on the key, nor on its images: with their true labels a
    model matches less than an independent one does. Raises ValueError if one does not answer.
    """
    return NullAnswers([model.identity for model in models], np.stack([_choices(model, asked) for model in models]))


def _choices(model: Suspect, asked: OrderedQueries) -> NDArray[np.int64]:
    """For which classes a null model takes the cells (n)."""
    try:
        found = model(asked.images[asked.plain])
    except (ValueError, NoAnswerError) as error:
        raise ValueError(f"null_models: {error}") from None
    labels = found.argmax(1) if found.ndim > 1 else found.astype(np.int64)
    answers = Answers(labels, found.astype(np.float64) if found.ndim > 1 else None)
    return answers.first_choices(asked.places[asked.plain], len(asked.cells), asked.classes)
