"""The pictures and tables of a sweep as a paper takes them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mwm.runner.reporting.csv_files import write_csv
from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.catalogue import drawn, save_pictures
from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, attacked, victims_of
from mwm.runner.reporting.groups.measures import by_scheme, detection_rate, present, proven
from mwm.runner.reporting.groups.names import attacks_of, configuration_names, victim_names
from mwm.runner.reporting.retention import ACCURACY_DROPS, points, worst_case
from mwm.stats.intervals import mean_and_sd
from mwm.storage.filesystem import write_atomic
from mwm.trials.names import format_fraction
from mwm.trials.outcome import LEVEL

ACROSS, HEADING = 5, 13
"""How many columns of figures stand side by side, and letters of a line of their headings."""

ENOUGH = 6
"""From so many pairs of seeds on an exact test of signs can show a difference at .05: 2 / 2**5 is more."""

SPECIAL = {
    **{"−log10 p": r"$-\log_{10} p$", "p ≤": r"$p \leq$"},
    **{letter: rf"\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "−": "$-$",
        "≤": r"$\leq$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "…": r"\ldots{}",
        "–": "--",
        "<": "$<$",
        ">": "$>$",
    },
}

Line = Mapping[str, Any]
"""A line of a CSV file."""


@dataclass(frozen=True)
class Part:
    """A part of a table: its title, if any, its headings, and rows of cells; all but the first of a row are LaTeX."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_paper(groups: Groups, figures: Mapping[str, Any], folder: Path) -> None:
    r"""Write figures/ and tables/ below a folder; `figures` are those as wide as a page.

    figures/NAME.svg and .pdf are as wide as a page, NAME-column.pdf as one of its two columns. tables/NAME.tex is one
    float, for \input into a document with \usepackage{booktabs}; NAME.csv has its numbers as they are.
    """
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    save_pictures(figures, folder / "figures", ".svg", ".pdf")
    save_pictures(drawn(groups, style.COLUMN), folder / "figures", "-column.pdf")
    tables = {"results": _results, "cost": _cost}
    tables |= {"detection": _detection, "worst_case": _worst_case} if attacks_of(groups) else {}
    for name, made in tables.items():
        caption, parts, lines = made(groups)
        write_atomic(folder / "tables" / f"{name}.tex", latex(name, caption, parts))
        write_csv(lines, (), folder / "tables" / f"{name}.csv")


def latex(name: str, caption: str, parts: Sequence[Part]) -> str:
    """A float of LaTeX: its caption, and the parts one under another, each in as many pieces as its columns take."""
    pieces = [piece for part in parts for piece in _pieces(part)]
    body = "\n\\medskip\n\n".join(map(_tabular, pieces))
    opening = f"% \\usepackage{{booktabs}}\n\\begin{{table}}[tbp]\n\\centering\\small\n\\caption{{{escaped(caption)}}}"
    return f"{opening}\n\\label{{tab:{name.replace('_', '-')}}}\n{body}\\end{{table}}\n"


def escaped(text: str) -> str:
    """A text as LaTeX takes it."""
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda found: SPECIAL[found[0]], text)


def _pieces(part: Part) -> Iterator[Part]:
    """A part of so few columns at a time that they find room; the first one is in each."""
    for start in range(1, max(len(part.headings), 2), ACROSS):
        own = slice(start, start + ACROSS)
        rows = [[row[0], *row[own]] for row in part.rows]
        yield Part(part.title, [part.headings[0], *part.headings[own]], rows)


def _tabular(part: Part) -> str:
    """A part of a table; headings stand on several lines, at the bottom of them."""
    first, *others = [textwrap.wrap(heading, HEADING) for heading in part.headings]
    high = max(len(lines) for lines in (first, *others))
    stacked = [[""] * (high - len(lines)) + lines for lines in ([part.headings[0]], *others)]
    head = [" & ".join(map(escaped, line)) for line in zip_longest(*stacked, fillvalue="")]
    title = [rf"\multicolumn{{{len(part.headings)}}}{{l}}{{{escaped(part.title)}}} \\"] if part.title else []
    rows = [" & ".join([escaped(row[0]), *row[1:]]) for row in part.rows]
    lines = [*title, r"\toprule", *(f"{line} \\\\" for line in head), r"\midrule", *(f"{row} \\\\" for row in rows)]
    columns = "l" + "r" * len(others)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *lines, r"\bottomrule", "\\end{tabular}\n"])


def _cell(numbers: Sequence[float], form: Callable[[float], str], *, bold: bool = False) -> str:
    """A mean and its standard deviation; a dash where nothing was measured."""
    found = mean_and_sd(numbers)
    if found["mean"] is None:
        return "--"
    mean = form(found["mean"]).replace("-", "{-}")
    shown = rf"\mathbf{{{mean}}}" if bold else mean
    return f"${shown}$" if found["sd"] is None else rf"${shown} \pm {form(found['sd'])}$"


def _one(number: float) -> str:
    return f"{round(number, 1) + 0.0:.1f}"


_two, _three = partial(format_fraction, digits=2), partial(format_fraction, digits=3)


def _line(members: Members, names: Sequence[str]) -> dict[str, Any]:
    """Count, mean and standard deviation of each measure, under its name."""
    told = {name: mean_and_sd(_numbers(members, name)) for name in names}
    return {f"{name}_{key}": value for name, own in told.items() for key, value in own.items()}


def _numbers(members: Members, name: str) -> list[float]:
    if name == "neg_log10_p":
        return [0.0 - log for log in present(members, "log10_p")]
    return present(members, name)


def _seeds(groups: Sequence[Members]) -> str:
    """Over how many seeds means are."""
    counts = sorted({len(present(members, "clean_acc")) for members in groups} - {0})
    if counts in ([], [1]):
        return "1 seed"
    return f"Mean ± standard deviation of {'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


def _significance(groups: Sequence[Members]) -> str:
    """What bold means, and why no row is said to be better than another."""
    few = max((len(members) for members in groups), default=0) < ENOUGH
    why = f"fewer than {ENOUGH} seeds allow no exact paired test at .05" if few else "bold says nothing of differences"
    return f"Bold: {LEVEL} by the exact test of each seed. Rows are not compared: {why}."


MEASURES = (
    ("proof, −log10 p", "neg_log10_p", _one),
    ("query accuracy", "query_acc", _two),
    ("clean accuracy", "clean_acc", _three),
)

Made = tuple[str, Sequence[Part], Sequence[Line]]
"""A caption, the parts of a table, and the lines of its CSV file."""


def _results(groups: Groups) -> Made:
    """What each attack leaves of each setting."""
    victims, attacks = victim_names(victims_of(groups)), {None: "no attack"} | _attack_names(groups)
    parts = []
    for title, name, form in MEASURES:
        rows = [
            [setting, *(_measured(groups.get((victim, attack), []), name, form) for attack in attacks)]
            for victim, setting in victims.items()
        ]
        parts.append(Part(title, ["setting", *attacks.values()], rows))
    lines = [
        {"setting": victims[victim], "attack": attacks[attack], "proven": proven(members)}
        | _line(members, [name for _, name, _ in MEASURES])
        for (victim, attack), members in groups.items()
    ]
    caption = f"What attacks leave of watermarks. {_seeds([*groups.values()])}. {_significance([*groups.values()])}"
    return caption, parts, lines


def _measured(members: Members, name: str, form: Callable[[float], str]) -> str:
    return _cell(_numbers(members, name), form, bold=name == "neg_log10_p" and proven(members))


def _attack_names(groups: Groups) -> dict[Configuration | None, str]:
    return dict(configuration_names(attacks_of(groups), "kind").items())


def _worst_case(groups: Groups) -> Made:
    """What the attack leaves that leaves least, of those whose students lose so much at most."""
    victims, attacks = victim_names(attacked(groups)), _attack_names(groups)
    whole = {(without_budget(attack), dict(attack).get(BUDGET)): attack for attack in attacks_of(groups)}
    rows: list[list[str]] = []
    lines: list[dict[str, Any]] = []
    for victim, left in worst_case(points(groups), [*victims]).items():
        row = [victims[victim]]
        for most, point in left.items():
            attack = None if point is None else whole[point.attack, point.budget]
            members = [] if point is None else groups[victim, attack]
            row.append(_measured(members, "neg_log10_p", _one))
            told = {"setting": victims[victim], "most_points_lost": most, "attack": attacks.get(attack, "")}
            lines.append(told | {"proven": proven(members)} | _line(members, ["neg_log10_p", "query_acc"]))
        rows.append([*row, escaped(lines[-1]["attack"]) or "--"])
    headings = ["setting", *(f"≤ {most} points" for most in ACCURACY_DROPS), f"attack, ≤ {ACCURACY_DROPS[-1]} points"]
    caption = (
        "Proof, −log10 p, after the attack that leaves least of those whose students lose so many points of clean "
        f"accuracy at most. {_seeds([*groups.values()])}. {_significance([*groups.values()])}"
    )
    return caption, [Part("", headings, rows)], lines


def _detection(groups: Groups) -> Made:
    """How many students of each attack on each kind of scheme are detected."""
    found, attacks = by_scheme(groups), _attack_names(groups)
    schemes = [*dict.fromkeys(scheme for scheme, _ in found)]
    told = {key: detection_rate(members) for key, members in found.items()}
    rows = [
        [name, *(_share(told.get((scheme, attack), {"students": 0})) for scheme in schemes)]
        for attack, name in attacks.items()
        if attack is not None
    ]
    lines = [{"scheme": scheme, "attack": attacks[attack]} | rate for (scheme, attack), rate in told.items()]
    caption = (
        f"Students detected at {LEVEL}, of all settings and seeds of a scheme, and the 95 % interval of "
        "their share (Clopper and Pearson, 1934)."
    )
    return caption, [Part("", ["attack", *schemes], rows)], lines


def _share(told: Mapping[str, Any]) -> str:
    if not told["students"]:
        return "--"
    return f"{told['detected']}/{told['students']} [{_two(told['low'])}, {_two(told['high'])}]"


COSTS = (
    ("accuracy of the start", "start_acc", _three),
    ("clean accuracy", "clean_acc", _three),
    ("clean drop", "clean_drop", _three),
    ("oracle calls", "oracle_calls", lambda number: f"{number:,.0f}".replace(",", "{,}")),
    ("seconds", "seconds", _one),
    ("MiB", "peak_mib", lambda number: f"{number:.0f}"),
)


def _cost(groups: Groups) -> Made:
    """What a watermark costs its owner, and an attack the attacker."""
    victims = victim_names(victims_of(groups))
    watermarks: dict[str, Members] = {name: groups.get((victim, None), []) for victim, name in victims.items()}
    attacks: dict[str, Members] = {  # a student of a control has a row for each key: it is counted once
        name: [*{row["digest"]: row for (_, own), rows in groups.items() if own == attack for row in rows}.values()]
        for attack, name in _attack_names(groups).items()
    }
    started = ["start_acc"] * any(present(own, "start_acc") for own in watermarks.values())
    made = [_costs("setting", watermarks, (*started, "clean_acc", "clean_drop", "seconds", "peak_mib"))]
    made += [_costs("attack", attacks, ("clean_acc", "oracle_calls", "seconds", "peak_mib"))] if attacks else []
    caption = f"What watermarks and attacks cost. {_seeds([*watermarks.values()])}; attacks: over all settings, too."
    return caption, [part for part, _ in made], [line for _, lines in made for line in lines]


def _costs(kind: str, groups: Mapping[str, Members], names: Sequence[str]) -> tuple[Part, list[Line]]:
    """Some costs of settings or of attacks, by name."""
    costs = [cost for cost in COSTS if cost[1] in names]
    rows = [[name, *(_cell(_numbers(own, cost), form) for _, cost, form in costs)] for name, own in groups.items()]
    lines = [{"kind": kind, "name": name} | _line(own, names) for name, own in groups.items()]
    return Part("", [kind, *(heading for heading, _, _ in costs)], rows), [*lines]
