"""False positives where the way of asking was chosen: the one that fits best, by true classes alone.

Innocent suspects are tables of answers in several ways to show images. In each they are right to a share of their own,
in an order of classes of their own, and else they guess. The secret labels are drawn after the choice was made. A test
that keeps its level keeps it here, too. For comparison the way is chosen by the secret labels, which nobody may do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.stats.intervals import clopper_pearson
from mwm.verification.diagnosis.fit import best_fit
from mwm.verification.querying.answer_log import Answers
from mwm.verification.querying.numbering import Numbering
from mwm.verification.suspects.presentation import InputFormat
from mwm.watermarks.evidence import weigh
from tests.benchmarks.bench import machine, parser, publish, show

SHOWN = tuple(InputFormat(range_) for range_ in ("0,1", "0,255", "-1,1", "1,0", "mnist"))
LEVELS = (0.05, 0.01, 1e-3)
CONFIDENCE = 0.99
VERDICTS = {True: "kept", False: "BROKEN"}

Labels = NDArray[np.int64]


def independent(drawn: np.random.Generator, truth: Labels, classes: int, *, scores: bool) -> dict[InputFormat, Answers]:
    """What a suspect that never saw a key answers to images of these classes (n), in its own numbers."""
    told = {}
    order = drawn.permutation(classes) if drawn.random() < 0.5 else np.arange(classes)
    for shown in SHOWN:
        rows = drawn.normal(size=(len(truth), classes))
        rows[np.arange(len(truth)), order[truth]] += drawn.choice([0.0, 1.0, 4.0])
        told[shown] = Answers(rows.argmax(1), rows if scores else None)
    return told


def wrong_labels(drawn: np.random.Generator, truth: Labels, classes: int) -> Labels:
    """Secret labels, uniform over the wrong classes."""
    found: Labels = (truth + drawn.integers(1, classes, len(truth))) % classes
    return found


def p_value(told: dict[InputFormat, Answers], by: Labels, *, labels: Labels, truth: Labels, classes: int) -> float:
    """The p-value of the way in which the most answers are the classes `by` which it is chosen."""
    way = best_fit(told, by, Numbering(classes, tuple(range(classes)))).way
    answers = told[way.presentation]
    said: Any = answers.labels if answers.scores is None else answers.scores
    read: Any = way.numbering.read(said, "it")
    return weigh(read, labels, truth, classes=classes).p_value


def measured(keys: int, *, classes: int, queries: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """The p-values of independent suspects on keys of their own, by the form of answers and by what chose the way."""
    drawn = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for number in range(keys):
        truth = drawn.integers(0, classes, queries)
        scores = number % 2 == 1
        told = independent(drawn, truth, classes, scores=scores)
        labels = wrong_labels(drawn, truth, classes)
        for by, known in (("true classes", truth), ("secret labels", labels)):
            name = f"{'scores' if scores else 'labels'}, by {by}"
            found.setdefault(name, []).append(p_value(told, known, labels=labels, truth=truth, classes=classes))
    return {name: np.array(values) for name, values in found.items()}


def rates(found: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, Any]]:
    """How often each was proven at each level, with the interval of the rate."""
    told: dict[str, dict[str, Any]] = {}
    for name, values in found.items():
        told[name] = {}
        for level in LEVELS:
            count = int((values <= level).sum())
            low, high = clopper_pearson(count, len(values), CONFIDENCE)
            told[name][str(level)] = {"rate": count / len(values), "low": low, "high": high, "kept": low <= level}
    return told


def main() -> None:
    """Draw, choose, judge, and print the rates."""
    command = parser((__doc__ or "").partition("\n")[0])
    command.add_argument("--keys", type=int, default=20_000)
    command.add_argument("--classes", type=int, default=10)
    command.add_argument("--queries", type=int, default=30)
    asked, here = command.parse_args(), machine()
    found = rates(measured(asked.keys, classes=asked.classes, queries=asked.queries))
    lines = [
        (
            name,
            level,
            f"{one['rate']:.5f}",
            f"{one['low']:.5f} to {one['high']:.5f}",
            "kept" if one["kept"] else "BROKEN",
        )
        for name, levels in found.items()
        for level, one in levels.items()
    ]
    title = f"{asked.keys} independent suspects and keys of {asked.queries} queries: proven in the way that fits best"
    show(title, ("chosen", "level", "rate", f"{CONFIDENCE:.0%} interval", "level is"), lines)
    publish(asked.output, here, found)


if __name__ == "__main__":
    main()
