"""`launch.py power`: how many queries prove a copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Annotated

from cyclopts import Parameter
from rich import box
from rich.table import Table

from mwm.runner.cli.options import make_console
from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.stats.power import MAX_QUERIES, ROUNDING, average_sample_number, required_queries
from mwm.stats.power import power as power_of
from mwm.stats.score_power import average_for_scores, required_for_scores, score_power

LEVELS, SURVIVALS = [DEFAULT_LEVEL, 1e-6], [0.2, 0.3, 0.4, 0.5, 0.7, 0.9]
WRONG, RANKS = [0.0, 0.1], [0.0, 0.1, 0.2, 0.3, 0.4]
NO_QUERIES: list[int] = []
TITLES = (
    "Queries whose labels prove a copy with the chance {:g}, by the share of them that it still matches\n"
    "and the share that it gives another wrong label",
    "Queries whose scores prove a copy with the chance {:g}, by the mean rank of the secret labels among\n"
    "the wrong classes: 0 first, 1 last",
    "\nThe chance that labels prove a copy, by the share of the queries that it still matches",
    "The chance that scores prove a copy, by the mean rank of the secret labels",
)


def labels_table(
    shares: Iterable[tuple[float, float]], *, classes: int, levels: Sequence[float], power: float
) -> Table:
    """For each share kept, other wrong answers and level: queries of the exact and of the sequential test of labels."""
    rows = []
    for survival, others in shares:
        cells = [f"{survival:g}", f"{others:g}"]
        for level in levels:
            fixed = required_queries(survival, classes=classes, level=level, power=power, others=others)
            cells += _counts(fixed, average_sample_number(survival, classes=classes, level=level, others=others))
        rows.append(cells)
    return _table(("survival", "wrong", *_pairs(levels)), rows)


def scores_table(ranks: Sequence[float], *, classes: int, levels: Sequence[float], power: float) -> Table:
    """For each mean rank and level: queries of the exact and of the sequential test of scores."""
    rows = []
    for rank in ranks:
        cells = [f"{rank:g}"]
        for level in levels:
            fixed = required_for_scores(rank, classes=classes, level=level, power=power)
            cells += _counts(fixed, average_for_scores(rank, classes=classes, level=level))
        rows.append(cells)
    return _table(("mean rank", *_pairs(levels)), rows)


def labels_given(
    queries: Sequence[int], *, classes: int, levels: Sequence[float], survivals: Sequence[float], wrong: Sequence[float]
) -> Table:
    """The power of labels by numbers of queries, levels and other wrong answers, a column for each share kept."""
    for number in queries:
        if number > MAX_QUERIES:
            raise ValueError(f"queries {number} is not allowed; it must be at most {MAX_QUERIES}")
    possible, rows = possible_shares(survivals, wrong), []
    for number, level, others in product(queries, levels, wrong):
        chances = {
            survival: power_of(number, classes=classes, level=level, survival=survival, others=others)
            for survival in survivals
            if (survival, others) in possible
        }
        shown = [f"{chances[survival]:.3f}" if survival in chances else "-" for survival in survivals]
        rows.append([str(number), f"{level:g}", f"{others:g}", *shown])
    return _table(("queries", "level", "wrong", *(f"{survival:g}" for survival in survivals)), rows)


def scores_given(queries: Sequence[int], *, classes: int, levels: Sequence[float], ranks: Sequence[float]) -> Table:
    """The power of scores by numbers of queries and levels, a column for each mean rank."""
    rows = []
    for number, level in product(queries, levels):
        chances = [score_power(number, classes=classes, level=level, rank=rank) for rank in ranks]
        rows.append([str(number), f"{level:g}", *(f"{chance:.3f}" for chance in chances)])
    return _table(("queries", "level", *(f"{rank:g}" for rank in ranks)), rows)


def possible_shares(survivals: Sequence[float], wrong: Sequence[float]) -> list[tuple[float, float]]:
    """Every share kept with every share of other wrong answers that it leaves room for, if any is left room for."""
    pairs = [*product(survivals, wrong)]
    return [pair for pair in pairs if not (max(pair) <= 1 and sum(pair) > 1 + ROUNDING)] or pairs


def _pairs(levels: Sequence[float]) -> Iterable[str]:
    for level in levels:
        yield from (f"p ≤ {level:g}", "one by one")


def _counts(fixed: int | None, mean: float | None) -> list[str]:
    return ["-" if fixed is None else str(fixed), "-" if mean is None else f"{mean:.1f}"]


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(names):
        made.add_column(name, justify="right" if place else "left")
    for row in rows:
        made.add_row(*row)
    return made


Numbers = Parameter(consume_multiple=(1, None), negative=())


def power(
    *,
    classes: Annotated[int, Parameter(help="Classes of the network.")],
    level: Annotated[list[float], Numbers, Parameter(help="p-values that prove.")] = LEVELS,
    survival: Annotated[
        list[float], Numbers, Parameter(help="Shares of the queries that a copy still matches.")
    ] = SURVIVALS,
    wrong: Annotated[
        list[float], Numbers, Parameter(help="Shares of the queries that a copy gives another wrong label.")
    ] = WRONG,
    rank: Annotated[
        list[float], Numbers, Parameter(help="Mean ranks of the secret label by scores: 0 first, .5 by chance.")
    ] = RANKS,
    power: Annotated[float, Parameter(help="Chance of a proof.")] = 0.9,
    queries: Annotated[list[int], Numbers, Parameter(help="Show the power of so many queries, too.")] = NO_QUERIES,
) -> int:
    """Show how many queries prove a copy.

    By labels: a line for each share of the queries that the copy still matches, and each share that it gives another
    wrong label. By scores: a line for each mean rank of the secret labels among the wrong classes. Two columns for each
    level of the p-value: queries of the exact test, and how many the sequential one asks on average. An option may take
    several values, as in --level 1e-3 1e-6.
    """
    tables = [
        labels_table(possible_shares(survival, wrong), classes=classes, levels=level, power=power),
        scores_table(rank, classes=classes, levels=level, power=power),
    ]
    if queries:
        tables.append(labels_given(queries, classes=classes, levels=level, survivals=survival, wrong=wrong))
        tables.append(scores_given(queries, classes=classes, levels=level, ranks=rank))
    console = make_console()
    for title, table in zip(TITLES, tables, strict=False):
        console.print(title.format(power), table)
        if table is tables[1]:
            console.print("One by one: how many the sequential test asks on average, with no end to the key.")
            console.print(
                f"Of the wrong answers of an independent model 1 in {classes - 1} matches; its mean rank is .5."
            )
    return 0
