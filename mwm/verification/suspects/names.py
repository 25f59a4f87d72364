"""Answers by the names of classes: one for each image, or several with their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 100
"""Letters of a name that count."""

NAMES = np.dtype((np.str_, LONGEST))
RANKED = np.dtype([("name", NAMES), ("score", np.float64)])
"""Names, and names with their scores; an empty name fills up a row."""

NAME = ("label", "class_name", "class", "name", "category", "prediction")
SCORE = ("score", "probability", "confidence", "prob")
"""What the name of a class, and its score, are called in answers."""


def read_names(rows: Any, classes: int) -> NDArray[Any] | None:
    """Names (str n), or names with scores (RANKED n k, k at least `classes`); None for an answer without names.

    Of several names without scores the first one counts. A row may be a name; a name with its score, as a pair or by
    words such as `label` and `score`; a score by each name; or a list of any of these.
    """
    if not isinstance(rows, list) or not rows:
        return None
    if all(isinstance(row, str) for row in rows):
        return np.array(rows, NAMES)
    pairs = [_pairs(row) for row in rows]
    if not all(pairs):
        return None
    if any(score is None for row in pairs for _, score in row):
        return np.array([row[0][0] for row in pairs], NAMES)
    found = np.zeros((len(rows), max(classes, *map(len, pairs))), RANKED)
    for place, row in enumerate(pairs):
        found[place, : len(row)] = row
    return found


def _pairs(row: Any) -> list[tuple[str, float | None]]:
    """The names in a row with their scores, if they have any; nothing if it is no such row."""
    if isinstance(row, str):
        return [(row, None)]
    if isinstance(row, Mapping):
        named = next((key for key in NAME if isinstance(row.get(key), (str, int))), None)
        if named is not None:
            return [(str(row[named]), next((_number(row[key]) for key in SCORE if key in row), None))]
        by_name = all(isinstance(name, str) and not name.isdecimal() for name in row)
        return [(name, _number(score)) for name, score in row.items()] if by_name else []
    if not isinstance(row, (list, tuple)):
        return []
    if len(row) > 1 and isinstance(row[-2], str) and not isinstance(row[-1], (str, list, tuple, Mapping)):
        return [(row[-2], _number(row[-1]))]
    parts = [_pairs(one) for one in row]
    return [pair for part in parts for pair in part] if all(parts) else []


def _number(score: Any) -> float:
    """A score, and NaN for what is none."""
    try:
        return float(score)
    except (TypeError, ValueError):
        return np.nan
