"""`launch.py power`: how many queries prove a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich import box
from rich.table import Table

from mwm.runner.cli.options import make_console
from mwm.stats.binomial import DEFAULT_LEVEL, critical_matches
from mwm.stats.power import MAX_QUERIES, average_sample_number, required_queries
from mwm.stats.power import power as power_of

LEVELS, SURVIVALS = [DEFAULT_LEVEL, 1e-6], [0.2, 0.3, 0.4, 0.5, 0.7, 0.9]
NO_QUERIES: list[int] = []


def table(survivals: Sequence[float], *, classes: int, levels: Sequence[float], power: float) -> Table:
    """For each survival rate and level: queries of the exact test, and how many the sequential one asks on average."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column("survival")
    for level in levels:
        made.add_column(f"p ≤ {level:g}", justify="right")
        made.add_column("one by one", justify="right")
    for survival in survivals:
        cells = []
        for level in levels:
            fixed = required_queries(survival, classes=classes, level=level, power=power)
            mean = average_sample_number(survival, classes, level)
            cells += ["-" if fixed is None else str(fixed), "-" if mean is None else f"{mean:.1f}"]
        made.add_row(f"{survival:g}", *cells)
    return made


def given(queries: Sequence[int], *, classes: int, levels: Sequence[float], survivals: Sequence[float]) -> Table:
    """For numbers of queries and levels: the matches needed, and the power at each survival rate."""
    for number in queries:
        if number > MAX_QUERIES:
            raise ValueError(f"queries {number} is not allowed; it must be at most {MAX_QUERIES}")
    made = Table(box=box.SIMPLE_HEAD)
    for name in ("queries", "level", "matches needed", *(f"{survival:g}" for survival in survivals)):
        made.add_column(name, justify="left" if name == "queries" else "right")
    for number in queries:
        for level in levels:
            fewest = critical_matches(number, classes, level)
            chances = [power_of(number, classes=classes, level=level, survival=survival) for survival in survivals]
            shown = "-" if fewest is None else str(fewest)
            made.add_row(str(number), f"{level:g}", shown, *(f"{chance:.3f}" for chance in chances))
    return made


Numbers = Parameter(consume_multiple=(1, None), negative=())


def power(
    *,
    classes: Annotated[int, Parameter(help="Classes of the network.")],
    level: Annotated[list[float], Numbers, Parameter(help="p-values that prove.")] = LEVELS,
    survival: Annotated[
        list[float], Numbers, Parameter(help="Shares of the queries that a copy still matches.")
    ] = SURVIVALS,
    power: Annotated[float, Parameter(help="Chance of a proof.")] = 0.9,
    queries: Annotated[list[int], Numbers, Parameter(help="Show the power of so many queries, too.")] = NO_QUERIES,
) -> int:
    """Show how many queries prove a copy.

    A line for each share of the queries that the copy still matches; two columns for each level of the p-value: queries
    of the exact test, and how many the sequential one asks on average. An option may take several values, as in
    --level 1e-3 1e-6.
    """
    console = make_console()
    asked = table(survival, classes=classes, levels=level, power=power)
    known = given(queries, classes=classes, levels=level, survivals=survival)
    console.print(
        f"Queries that prove a copy with the chance {power:g}, by the share of them that it still matches", asked
    )
    console.print("One by one: how many the sequential test asks on average, with no end to the key.")
    console.print(f"An independent model matches a share of 1/{classes - 1} at most, on average.")
    if queries:
        console.print("\nThe chance to prove a copy, by the share of the queries that it still matches", known)
    return 0
