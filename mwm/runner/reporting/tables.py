"""Results of a sweep as tables, for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any, Literal, TypeVar

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mwm.runner.reporting.groups.configurations import (
    Configuration,
    Groups,
    Members,
    attacked,
    group_by_configuration,
    varying_fields,
    victims_of,
)
from mwm.runner.reporting.groups.measures import (
    DAMAGED,
    by_scheme,
    damaged_statistics,
    detection_rate,
    present,
    proven,
    unmarked_victims,
)
from mwm.runner.reporting.groups.names import attacks_of, configuration_names, victim_names
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.retention import ACCURACY_DROPS, RetentionPoint, points, worst_case
from mwm.stats.intervals import mean_and_sd
from mwm.trials.names import column_heading, format_fraction, format_value
from mwm.trials.outcome import LEVEL, STATUSES, UNMARKED, UNPROVEN

T = TypeVar("T")

WIDTH = 120
"""Characters of a line: what does not fit side by side becomes several tables."""

MOST_WARNINGS = 8

QUERIES = "scheme.queries."
"""Where the fields of a combined scheme's queries stand."""

MOST_DIGESTS, NETWORKS = 3, "launch.py model DIGEST FILE writes a network, its end names the form; all in results.csv"
PAIR = "−log10 p/query accuracy"
DETECTED = (
    f"students detected ({LEVEL}) of a scheme, all its settings and seeds, and the 95 % interval of their share",
    "a student of a control counts once, as detected if any of the keys is proven on it",
)
WORST_CASE = (
    f"{PAIR} after the attack that leaves the least proof, of those that lose so many points of accuracy at most"
)


def tables(results: Sequence[TrialResult]) -> Iterator[Group]:
    """What a person reads at the end: what survives, whom it detects, what the best attacker leaves, and the networks.

    Detection and the best attacker only where something was attacked, networks where a victim is done.
    """
    groups = group_by_configuration(result_rows(results))
    yield from retention_table(groups)
    if attacks_of(groups):
        yield detection_table(groups)
        yield worst_case_table(groups)
    if any(row["status"] == "done" for victim in victims_of(groups) for row in groups.get((victim, None), [])):
        yield network_table(groups)


@dataclass(frozen=True)
class _Column:
    """A column of a table: a cell for each setting of the victim, under a heading."""

    heading: str
    cells: Sequence[Text]

    @property
    def width(self) -> int:
        """How wide it is, with what parts it from the one before; each word of a heading has a line of its own."""
        lines = [line for cell in self.cells for line in cell.plain.split("\n")]
        return 1 + max(map(len, [*self.heading.split(" "), *lines]))


def retention_table(groups: Groups, *, width: float = WIDTH) -> Iterator[Group]:
    """What each setting of the victim costs and what of it survives each attack: means over seeds.

    One line per setting; of its fields only those are shown in which the results differ. Of a victim and of a student
    it is the proof, -log10 p, and beside it the query accuracy: bold where the watermark is proven in every seed at the
    usual level. What is wider than `width` characters is several tables. Under the last stands whose accuracy is not to
    be trusted.
    """
    counts = sorted({sum(row["status"] == "done" for row in members) for members in groups.values()} - {0})
    attacks, victims = attacks_of(groups), victims_of(groups)
    named = configuration_names(attacks, "kind")
    columns = [_Column(named[one], [_proof(groups.get((victim, one), [])) for victim in victims]) for one in attacks]
    alike = [[one for _, one in own] for _, own in groupby(zip(attacks, columns, strict=True), _apart_from_budget)]
    room = width - _width(_fields(victims))
    portions = _side_by_side(room, [_own([groups.get((victim, None), []) for victim in victims]), *alike])
    for portion in portions:
        last = portion is portions[-1]
        yield _by_setting(victims, portion, [_caption(counts), *_warnings(groups)] if last else [])


def _apart_from_budget(attack: tuple[Configuration, _Column]) -> Configuration:
    return without_budget(attack[0])


def _side_by_side(room: float, together: Sequence[Sequence[_Column]]) -> list[list[_Column]]:
    """Columns in portions of at most so many characters; those that belong together stay so, if they fit at all."""
    portions: list[list[_Column]] = [[]]
    for own in together:
        if _width([*portions[-1], *own]) > room >= _width(own) and portions[-1]:
            portions.append([])
        for column in own:
            if _width([*portions[-1], column]) > room and portions[-1]:
                portions.append([])
            portions[-1].append(column)
    return portions


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns)


def _fields(victims: Sequence[Configuration]) -> list[_Column]:
    """The scheme of each setting, and the fields in which they differ."""
    settings = [_one_key(victim) for victim in victims]
    found = [_Column("scheme", [Text(own["scheme.kind"]) for own in settings])]
    for path in varying_fields(tuple(own.items()) for own in settings):
        if path != "scheme.kind":
            shown = [Text(format_value(path, own[path]) if path in own else "") for own in settings]
            found.append(_Column(column_heading(path), shown))
    return found


def _one_key(victim: Configuration) -> dict[str, Any]:
    """A setting in which the queries of a combined scheme stand where those of others do: in one column."""
    return {path if path == QUERIES + "kind" else path.replace(QUERIES, "scheme."): value for path, value in victim}


def _by_setting(victims: Sequence[Configuration], columns: Sequence[_Column], notes: Sequence[str | Text]) -> Group:
    """A table with a line per setting of the victim: the fields in which they differ, then the columns."""
    made = _blank()
    every = [*_fields(victims), *columns]
    for column in every:
        side: Literal["left", "right"] = "left" if column.heading == "scheme" else "right"
        made.add_column(Text(column.heading.replace(" ", "\n")), justify=side, overflow="fold")
    for cells in zip(*(column.cells for column in every), strict=True):
        made.add_row(*cells)
    return _under(made, notes)


def _under(table: Table, notes: Sequence[str | Text]) -> Group:
    """A table and what it shows, on lines that may be longer than the table is wide."""
    return Group(table, *(note if isinstance(note, Text) else Text(note, "italic") for note in notes))


def _blank() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)


def _own(victims: Sequence[Members]) -> list[_Column]:
    """What is told of the victims themselves; of one that started from weights, also how good these were."""
    started = any(present(own, "start_acc") for own in victims)
    return [
        *([_Column("start clean", [Text(_figure(own, "start_acc")) for own in victims])] if started else []),
        _Column("victim clean", [Text(_figure(own, "clean_acc") + _ends(own)) for own in victims]),
        _Column("clean drop", [Text(_figure(own, "clean_drop")) for own in victims]),
        _Column("victim proof", [_own_proof(own) for own in victims]),
    ]


def _own_proof(members: Members) -> Text:
    """What a victim's own key proves of it, and how many of the seeds are unmarked."""
    told, unmarked = _proof(members, ends=False), present(members, "marked").count(False)
    return told.append(f"\n({unmarked} {UNMARKED})", "yellow") if unmarked else told


def _proof(members: Members, *, ends: bool = True) -> Text:
    """-log10 p and query accuracy, as means, and what did not end well."""
    logs, matches = present(members, "log10_p"), present(members, "query_acc")
    left = _pair(-fmean(logs) if logs else None, fmean(matches)) if matches else ""
    return Text(left + (_ends(members) if ends else ""), "bold" if proven(members) else "")


def _pair(proof: float | None, query_acc: float) -> str:
    # The space in front keeps figures further apart than the fields before them.
    told = "-" if proof is None else f"{round(proof, 1) + 0.0:.1f}"
    return f" {told}/{format_fraction(query_acc, 2)}"


def _figure(members: Members, name: str) -> str:
    found = mean_and_sd(present(members, name))
    mean = "" if found["mean"] is None else f" {format_fraction(found['mean'])}"
    return mean if found["sd"] is None else f"{mean}±{format_fraction(found['sd'])}"


def _ends(members: Members) -> str:
    """What did not end well, on a line of its own so that columns stay narrow; on the first if nothing ended well."""
    counts = Counter(row["status"] for row in members)
    ends = [f"{counts[status]} {status}" for status in STATUSES if status != "done" and counts[status]]
    return ("\n" if counts["done"] else "") + f"({', '.join(ends)})" if ends else ""


def _caption(counts: Sequence[int]) -> str:
    if not counts:
        return "no results yet"
    return f"{_mean_of(counts, 'mean ± sd')}; attacks, proof: {PAIR}; bold: {LEVEL} for every seed"


def _warnings(groups: Groups) -> Iterator[Text]:
    """Which settings have victims without a watermark, and whose clean accuracy rests on damaged statistics."""
    unmarked = unmarked_victims(groups)
    if unmarked:
        yield Text(f"warning: {UNPROVEN}", "yellow")
    yield from _some(unmarked, groups, lambda told: f"{told[0]} of {told[1]}")
    found = damaged_statistics(groups)
    if found:
        yield Text(f"warning: {DAMAGED}: re-estimating batch normalisation on clean images changes it", "yellow")
    yield from _some(found, groups, lambda told: f"{format_fraction(told[0])}, re-estimated {format_fraction(told[1])}")


def _some(found: Mapping[Configuration, T], groups: Groups, say: Callable[[T], str]) -> Iterator[Text]:
    """What is said of settings, a line for each of the first."""
    named = victim_names(victims_of(groups))
    for victim, told in [*found.items()][:MOST_WARNINGS]:
        yield Text(f"  {named[victim]}: {say(told)}", "yellow")
    if len(found) > MOST_WARNINGS:
        yield Text(f"  and {len(found) - MOST_WARNINGS} more, in summary.json", "yellow")


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
    return _under(made, DETECTED if "none" in schemes else DETECTED[:1])


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
    columns = [
        _Column(f"≤{most} lost", [_left(attackers[most]) for attackers in best.values()]) for most in ACCURACY_DROPS
    ]
    counts = sorted(
        {point.students for attackers in best.values() for point in attackers.values() if point is not None}
    )
    notes = [WORST_CASE, *([_mean_of(counts, "mean")] if counts else [])]
    tried = sum(attack is not None for _, attack in groups)
    if missing := tried - sum(point.complete for point in found):
        notes.append(f"left out: {missing} of {tried} attacks, whose seeds are not all done")
    return _by_setting([*best], columns, ["; ".join(notes)])


def network_table(groups: Groups) -> Group:
    """The digests of each setting's finished victims, the first few of them, by which commands name a network."""
    done = [[row for row in groups.get((one, None), []) if row["status"] == "done"] for one in victims_of(groups)]
    cells = [Text("\n".join([*dict.fromkeys(row["digest"] for row in rows)][:MOST_DIGESTS])) for rows in done]
    return _by_setting(victims_of(groups), [_Column("victims", cells)], [NETWORKS])


def _left(point: RetentionPoint | None) -> Text:
    if point is None:
        return Text(" -")
    proof = None if point.neg_log10_p is None else point.neg_log10_p.value
    return Text(_pair(proof, point.query_acc.value), "bold" if point.detected == point.students else "")
