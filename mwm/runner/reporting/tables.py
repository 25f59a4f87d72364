"""Results of a sweep as tables, for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mwm.runner.reporting.groups import (
    Configuration,
    Groups,
    Members,
    attacked,
    attacks_of,
    by_scheme,
    configuration_names,
    detection_rate,
    group_by_configuration,
    present,
    varying_fields,
    victims_of,
    without_budget,
)
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.retention import ACCURACY_DROPS, RetentionPoint, points, worst_case
from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.stats.intervals import mean_and_sd
from mwm.trials.names import column_heading, format_fraction, format_value
from mwm.trials.outcome import PROVEN_AT_DEFAULT, STATUSES

MOST_ATTACKS = 6
"""So many attacks fit side by side into 120 columns."""

PROOF = f"p ≤ {DEFAULT_LEVEL:g}".replace("0.", ".")
DETECTED = f"students detected ({PROOF}) of a scheme, all its settings and seeds, and the 95 % interval of their share"
WORST_CASE = "the least query accuracy that an attacker leaves who loses so many points of clean accuracy at most"


def tables(results: Sequence[TrialResult]) -> Iterator[Group]:
    """What a person reads at the end: what survives, whom it detects, and what the best attacker leaves.

    The last two only where something was attacked.
    """
    groups = group_by_configuration(result_rows(results))
    yield from retention_table(groups)
    if attacks_of(groups):
        yield detection_table(groups)
        yield worst_case_table(groups)


def retention_table(groups: Groups) -> Iterator[Group]:
    """What each setting of the victim costs and what of it survives each attack, as mean ± sd over seeds.

    One line per setting; of its fields only those are shown in which the results differ. Student figures are query
    accuracies, bold where the watermark is proven in every student at the usual level. Many attacks are several tables.
    """
    counts = sorted({sum(row["status"] == "done" for row in members) for members in groups.values()} - {0})
    named, victims = configuration_names(attacks_of(groups), "kind"), victims_of(groups)
    portions = _side_by_side([*named])
    for place, attacks in enumerate(portions):
        cells = {one: [_attacked(groups.get((one, attack), [])) for attack in attacks] for one in victims}
        headings = [named[attack] for attack in attacks]
        if place == 0:
            cells = {one: _own(groups.get((one, None), [])) + left for one, left in cells.items()}
            headings = ["victim clean", "clean drop", "victim query", *headings]
        yield _by_setting(headings, cells, "" if attacks is not portions[-1] else _caption(counts))


def _side_by_side(attacks: Sequence[Configuration]) -> list[list[Configuration]]:
    """Attacks in portions that fit into one table; those that differ in their budget alone stay together."""
    portions: list[list[Configuration]] = [[]]
    for _, alike in groupby(attacks, without_budget):
        together = [*alike]
        if portions[-1] and len(portions[-1]) + len(together) > MOST_ATTACKS:
            portions.append([])
        portions[-1] += together
    return portions


def _by_setting(headings: Sequence[str], cells: Mapping[Configuration, Sequence[Text]], caption: str) -> Group:
    """A table with a line per setting of the victim: the fields in which they differ, then its cells."""
    paths = [path for path in varying_fields(cells) if path != "scheme.kind"]
    made = _blank()
    for name in ("scheme", *map(column_heading, paths), *headings):
        side: Literal["left", "right"] = "left" if name == "scheme" else "right"
        made.add_column(Text(name.replace(" ", "\n")), justify=side, overflow="fold")
    for victim, own in cells.items():
        values = dict(victim)
        shown = [Text(format_value(path, values[path]) if path in values else "") for path in paths]
        made.add_row(values["scheme.kind"], *shown, *own)
    return _under(made, caption)


def _under(table: Table, caption: str) -> Group:
    """A table and what it shows, on a line that may be longer than the table is wide."""
    return Group(table, *([Text(caption, "italic")] if caption else []))


def _blank() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)


def _own(members: Members) -> list[Text]:
    clean = _figure(members, "clean_acc", 3) + _ends(members)
    return [Text(clean), Text(_figure(members, "clean_drop", 3)), Text(_figure(members, "query_acc", 2))]


def _attacked(members: Members) -> Text:
    proofs = present(members, PROVEN_AT_DEFAULT)
    return Text(_figure(members, "query_acc", 2) + _ends(members), "bold" if proofs and all(proofs) else "")


def _figure(members: Members, name: str, digits: int) -> str:
    found = mean_and_sd(present(members, name))
    # The space in front keeps figures further apart than the fields before them.
    mean = "" if found["mean"] is None else f" {format_fraction(found['mean'], digits)}"
    return mean if found["sd"] is None else f"{mean} ± {format_fraction(found['sd'], digits)}"


def _ends(members: Members) -> str:
    """What did not end well, on a line of its own so that columns stay narrow; on the first if nothing ended well."""
    counts = Counter(row["status"] for row in members)
    ends = [f"{counts[status]} {status}" for status in STATUSES if status != "done" and counts[status]]
    return ("\n" if counts["done"] else "") + f"({', '.join(ends)})" if ends else ""


def _caption(counts: Sequence[int]) -> str:
    if not counts:
        return "no results yet"
    return f"{_mean_of(counts, 'mean ± sd')}; attacks: the student's query accuracy, {PROOF} for every seed in bold"


def _mean_of(counts: Sequence[int], mean: str) -> str:
    """Over how many seeds: `counts` are the numbers that occur, in order."""
    if counts[-1] == 1:
        return "1 seed"
    return f"{mean} of {counts[0]}-{counts[-1]} seeds" if len(counts) > 1 else f"{mean} of {counts[0]} seeds"


def detection_table(groups: Groups) -> Group:
    """How many students of each attack are detected, by kind of scheme, all configurations and seeds together."""
    found, named = by_scheme(groups), configuration_names(attacks_of(groups), "kind")
    schemes = list(dict.fromkeys(scheme for scheme, _ in found))
    made = _blank()
    for name in ("attack", *schemes):
        made.add_column(name, justify="left" if name == "attack" else "right")
    for attack, name in named.items():
        made.add_row(Text(name), *(_share(found.get((scheme, attack), [])) for scheme in schemes))
    return _under(made, DETECTED)


def _share(members: Members) -> Text:
    told = detection_rate(members)
    if not told["students"]:
        return Text("-")
    interval = f"[{format_fraction(told['low'], 2)}, {format_fraction(told['high'], 2)}]"
    return Text(f"  {told['detected']}/{told['students']} {interval}")


def worst_case_table(groups: Groups) -> Group:
    """Worst-case retention: what the best attacker leaves that gives up 1, 3 or 5 points of accuracy at most."""
    found = points(groups)
    best = worst_case(found, attacked(groups))
    cells = {victim: [_left(point) for point in attackers.values()] for victim, attackers in best.items()}
    counts = sorted(
        {point.students for attackers in best.values() for point in attackers.values() if point is not None}
    )
    notes = [WORST_CASE, *([_mean_of(counts, "mean")] if counts else [])]
    tried = sum(attack is not None for _, attack in groups)
    if missing := tried - sum(point.complete for point in found):
        notes.append(f"left out: {missing} of {tried} attacks, whose seeds are not all done")
    return _by_setting([f"≤{most} lost" for most in ACCURACY_DROPS], cells, "; ".join(notes))


def _left(point: RetentionPoint | None) -> Text:
    return Text(" -" if point is None else f" {format_fraction(point.query_acc.value, 2)}")
