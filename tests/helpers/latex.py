"""A strict reader of the little LaTeX that tables are made of: whatever it does not know is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TEXT = r"(?:[A-Za-z0-9 .,:;()/=+*'\[\]-]|\\[&%$#_{}]|\\text(?:backslash|asciitilde|asciicircum)\{\}|\\ldots\{\})"
NUMBER = r"(?:\{-\})?[0-9.]+(?:\{,\}[0-9]{3})*"
CELLS = rf"(?:{NUMBER}|\\mathbf\{{{NUMBER}\}})(?: \\pm {NUMBER})?"
MATHS = rf"\$(?:-|<|>|\\leq|\\pm|\\times|p \\leq|-\\log_\{{10\}} p|{CELLS})\$"
WORDS = re.compile(rf"(?:{TEXT}|{MATHS})*")
OPENING = ["% \\usepackage{booktabs}", r"\begin{table}[tbp]", r"\centering\small"]
CELL = re.compile(rf"\$(\\mathbf\{{)?({NUMBER})\}}?(?: \\pm ({NUMBER}))?\$")


@dataclass
class Tabular:
    """A table as it stands on the page: its title, its headings, and its rows, as they are written."""

    title: str = ""
    headings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def read(text: str) -> tuple[str, str, list[Tabular]]:
    """Caption, label and tables of a float; fails where LaTeX would, and where something is not as a table has it."""
    lines = text.removesuffix("\n").split("\n")
    assert lines[:3] == OPENING
    assert lines[-1] == r"\end{table}"
    caption = re.fullmatch(r"\\caption\{(.*)\}", lines[3])
    label = re.fullmatch(r"\\label\{tab:([a-z-]+)\}", lines[4])
    assert caption, lines[3]
    assert label, lines[4]
    assert WORDS.fullmatch(caption[1]), caption[1]
    body = "\n".join(lines[5:-1])
    found = [_tabular(part) for part in body.split("\n\n\\medskip\n\n")]
    assert found, "a float without a table"
    return caption[1], label[1], found


def _tabular(text: str) -> Tabular:
    first, *lines, last = text.strip().split("\n")
    columns = re.fullmatch(r"\\begin\{tabular\}\{(lr*)\}", first)
    assert columns, first
    assert last == r"\end{tabular}"
    made = Tabular()
    while title := re.fullmatch(rf"\\multicolumn\{{{len(columns[1])}\}}\{{l\}}\{{(.*)\}} \\\\", lines[0]):
        assert WORDS.fullmatch(title[1]), title[1]
        made.title, lines = f"{made.title} {title[1]}".strip(), lines[1:]
    rules = [place for place, line in enumerate(lines) if line in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert [lines[place] for place in rules] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert (rules[0], rules[2]) == (0, len(lines) - 1)
    head = [_row(line, len(columns[1])) for line in lines[1 : rules[1]]]
    made.headings = [" ".join(filter(None, parts)) for parts in zip(*head, strict=True)]
    made.rows = [_row(line, len(columns[1])) for line in lines[rules[1] + 1 : -1]]
    return made


def _row(line: str, columns: int) -> list[str]:
    assert line.endswith(r" \\"), line
    cells = re.split(r"(?<!\\)&", line.removesuffix(r"\\"))
    assert len(cells) == columns, line
    for cell in cells:
        assert WORDS.fullmatch(cell.strip()), cell
    return [cell.strip() for cell in cells]


def number(cell: str) -> tuple[float | None, float | None, bool]:
    """Mean and deviation of a cell, None where there is none, and whether it is bold."""
    if cell == "--":
        return None, None, False
    found = CELL.fullmatch(cell)
    assert found, cell
    mean, spread = (
        None if part is None else float(part.replace("{-}", "-").replace("{,}", "")) for part in found.group(2, 3)
    )
    return mean, spread, found[1] is not None
