"""The test of a verdict in whole numbers, by plain loops: what the product's arithmetic is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def exact_p_value(scores: Sequence[Sequence[float]], labels: Sequence[int], truth: Sequence[int]) -> Fraction:
    """P(sum of mid-ranks <= observed) if each label is drawn anew from the classes that are not true."""
    ways, seen = {0: Fraction(1)}, 0
    for row, label, true in zip(scores, labels, truth, strict=True):
        wrong = [c for c in range(len(row)) if c != true]
        doubled = {
            c: 2 * sum(row[d] > row[c] for d in wrong) + sum(row[d] == row[c] for d in wrong if d != c) for c in wrong
        }
        seen += doubled[label]
        more: dict[int, Fraction] = {}
        for total, chance in ways.items():
            for rank in doubled.values():
                more[total + rank] = more.get(total + rank, Fraction(0)) + chance / len(wrong)
        ways = more
    return sum((chance for total, chance in ways.items() if total <= seen), Fraction(0))


def one_hot(labels: Sequence[int], classes: int) -> list[list[float]]:
    """Votes of one answer each."""
    return [[float(c == label) for c in range(classes)] for label in labels]
