"""Tables of LaTeX: floats of parts one under another."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

ACROSS, HEADING, TITLE = 5, 13, 64
"""How many columns of figures stand side by side, and letters of a line of their headings and of a title."""

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


@dataclass(frozen=True)
class Part:
    """A part of a table: its title, if any, its headings, and rows of cells; all but the first of a row are LaTeX."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


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
    titles = textwrap.wrap(part.title, TITLE)
    title = [rf"\multicolumn{{{len(part.headings)}}}{{l}}{{{escaped(words)}}} \\" for words in titles]
    rows = [" & ".join([escaped(row[0]), *row[1:]]) for row in part.rows]
    lines = [*title, r"\toprule", *(f"{line} \\\\" for line in head), r"\midrule", *(f"{row} \\\\" for row in rows)]
    columns = "l" + "r" * len(others)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *lines, r"\bottomrule", "\\end{tabular}\n"])
