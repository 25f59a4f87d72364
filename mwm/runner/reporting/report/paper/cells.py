"""The cells of a paper's tables, and what their captions say of seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mwm.runner.reporting.groups.configurations import Groups, Members
from mwm.runner.reporting.groups.measures import present, proven
from mwm.runner.reporting.groups.threats import threats
from mwm.runner.reporting.report.paper.latex import Part
from mwm.stats.intervals import mean_and_sd
from mwm.trials.names import format_fraction
from mwm.trials.outcome import LEVEL

ENOUGH = 6
"""From so many pairs of seeds on an exact test of signs can show a difference at .05: 2 / 2**5 is more."""

Line = Mapping[str, Any]
"""A line of a CSV file."""

Made = tuple[str, Sequence[Part], Sequence[Line]]
"""A caption, the parts of a table, and the lines of its CSV file."""


def cell(given: Sequence[float], form: Callable[[float], str], *, bold: bool = False) -> str:
    """A mean and its standard deviation; a dash where nothing was measured."""
    found = mean_and_sd(given)
    if found["mean"] is None:
        return "--"
    mean = form(found["mean"]).replace("-", "{-}")
    shown = rf"\mathbf{{{mean}}}" if bold else mean
    return f"${shown}$" if found["sd"] is None else rf"${shown} \pm {form(found['sd'])}$"


def one(number: float) -> str:
    """A number with one digit behind its point."""
    return f"{round(number, 1) + 0.0:.1f}"


two, three = partial(format_fraction, digits=2), partial(format_fraction, digits=3)


def line(members: Members, names: Sequence[str]) -> dict[str, Any]:
    """Count, mean and standard deviation of each measure, under its name."""
    told = {name: mean_and_sd(numbers(members, name)) for name in names}
    return {f"{name}_{key}": value for name, own in told.items() for key, value in own.items()}


def numbers(members: Members, name: str) -> list[float]:
    """What rows say under a name, and −log10 p as a number that grows."""
    if name == "neg_log10_p":
        return [0.0 - log for log in present(members, "log10_p")]
    return present(members, name)


def seeds(groups: Sequence[Members]) -> str:
    """Over how many seeds means are."""
    counts = sorted({len(present(members, "clean_acc")) for members in groups} - {0})
    if counts in ([], [1]):
        return "1 seed"
    return f"Mean ± standard deviation of {'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


def significance(groups: Sequence[Members]) -> str:
    """What bold means, and why no row is said to be better than another."""
    few = max((len(members) for members in groups), default=0) < ENOUGH
    why = f"fewer than {ENOUGH} seeds allow no exact paired test at .05" if few else "bold says nothing of differences"
    return f"Bold: {LEVEL} by the exact test of each seed. Rows are not compared: {why}."


def pointer(groups: Groups) -> str:
    """Where it is told what the attackers of a table are given, as a sentence behind others; empty if it is not."""
    return " What each attacker is given: the table of threat models." if threats(groups) else ""


def measured(members: Members, name: str, form: Callable[[float], str]) -> str:
    """The cell of a measure; −log10 p is bold where every seed is proven."""
    return cell(numbers(members, name), form, bold=name == "neg_log10_p" and proven(members))
