"""Networks that never saw a key: what null models, and the control, answer to its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mwm.verification.querying.answer_log import Answers
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects.outputs import NoAnswerError, Suspect
from mwm.verification.verdict import Comparison
from mwm.watermarks.evidence import first_choices


@dataclass(frozen=True, eq=False)
class NullAnswers:
    """What null models answer: for what they take cells, int64 (models, cells) in the order asked.

    `identities` tell who was asked, `labels` (models, images) what was answered to each image of a key as it is.
    """

    identities: list[str]
    choices: NDArray[np.int64]
    labels: NDArray[np.int64]

    def matches(self, labels: NDArray[np.int64]) -> list[int]:
        """How many of the first cells each null model takes for their `labels` (n, at most those asked)."""
        found: list[int] = (self.choices[:, : len(labels)] == labels).sum(1).tolist()
        return found


def ask_null_models(models: Sequence[Suspect], asked: OrderedQueries) -> NullAnswers:
    """Ask null models a key's images, as they are.

    Whoever names them answers for it that none was trained on the key, nor on its images: with their true labels a
    model matches less than an independent one does. Raises ValueError if one does not answer.
    """
    told = [_answers(model, asked) for model in models]
    places, count = asked.places[asked.plain], len(asked.cells)
    choices = np.stack([one.first_choices(places, count, asked.classes) for one in told])
    return NullAnswers([model.identity for model in models], choices, np.stack([one.labels for one in told]))


def _answers(model: Suspect, asked: OrderedQueries) -> Answers:
    """What a null model answers to the images of a key as they are."""
    try:
        found = model(asked.images[asked.plain])
    except (ValueError, NoAnswerError) as error:
        raise ValueError(f"null_models: {error}") from None
    return Answers(first_choices(found), found.astype(np.float64) if found.ndim > 1 else None)


def compare(asked: OrderedQueries, control: Answers | None, null: NullAnswers | None) -> tuple[Comparison, ...]:
    """What the control (its answers to all images that are `asked`, m) and null models say of the first cells."""
    found, count = [], len(asked.cells)
    if control is not None:
        plain = control.part(asked.plain)
        choices = plain.first_choices(asked.places[asked.plain], count, asked.classes)
        found.append(_comparison("control", choices[None], asked))
    if null is not None:
        found.append(_comparison("null models", null.choices[:, :count], asked))
    return tuple(found)


def _comparison(who: str, choices: NDArray[np.int64], asked: OrderedQueries) -> Comparison:
    right, matches = (float((choices == values).sum(1).mean()) for values in (asked.truth, asked.labels))
    return Comparison(who=who, networks=len(choices), right=right, matches=matches)
