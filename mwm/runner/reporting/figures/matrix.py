"""The matrix of attacks: what each of very many attacks leaves of a few settings, a cell for each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.cells import CELL, Cells, Look, draw_cells, frame_cells, headings
from mwm.runner.reporting.figures.heatmap import MEASURES
from mwm.runner.reporting.groups.configurations import Configuration, Groups, attacked
from mwm.runner.reporting.groups.measures import present, proven
from mwm.runner.reporting.groups.names import attack_names, by_knowledge, victim_names
from mwm.runner.reporting.retention import points
from mwm.runner.reporting.tables.layout import is_turned
from mwm.trials.outcome import LEVEL

NAME = 50
"""Letters of a line of an attack's name."""

ROW, HEAD, WIDEST = 0.17, 0.24, 1.1
"""Inches: the height of a row of cells, and of the words above those of a threat model; the most of a cell's width."""

PROOF, MATCHES = MEASURES

LOST = Look(text=lambda points: f"{points:.1f}".replace("-0.0", "0.0").replace("-", "−"), colours="Oranges", even=5.0)

EXPLAINED = f"means over seeds; bold and framed: {LEVEL} in every seed"
LOSSES = "accuracy lost: of a student below its victim, of a victim below the control"


@dataclass(frozen=True)
class _Line:
    """A line of the matrix: an attack, or the victims themselves (None), or words alone where a threat model begins."""

    name: str
    attack: Configuration | None = None
    title: bool = False

    @property
    def height(self) -> float:
        """Inches."""
        return HEAD if self.title else ROW + style.LINE * self.name.count("\n")


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw the mean proof that each attack leaves of each setting, and beside it the clean accuracy that is lost.

    Attacks of one access, true labels and form of answers stand together. A page has both, a column of a page the
    proof alone; either is as wide as its cells need, if that is more than `width` inches. None where attacks are few,
    or fewer than settings: the heatmap shows those.
    """
    victims = attacked(groups)
    if not victims or not is_turned(groups):
        return None
    lines, settings = [*_lines(groups)], style.plain(victim_names(victims))
    panels = [one for one in _panels(groups, lines, victims) if any(map(_known, one.cells))]
    panels = panels[: 2 if width >= style.FULL else 1]
    left = style.LETTER * max(len(part) for line in lines for part in line.name.split("\n")) + 0.15
    across = min(max(CELL, (width - left) / len(panels) / len(victims) - 0.02), WIDEST)
    heads, upright, top = headings([settings[victim] for victim in victims], across)
    edges = [0.0, *accumulate(line.height for line in lines)]
    made = style.new_figure(left + len(panels) * (across * len(victims) + 0.1), edges[-1] + top + 0.8)
    axes = made.subplots(1, len(panels), squeeze=False, sharey=True).flat
    for place, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        draw_cells(axis, panel.cells, panel.look, edges=edges)
        if panel.proofs:
            frame_cells(axis, panel.proofs, edges=edges)
        axis.set_title(panel.title)
        axis.set_xticks([column + 0.5 for column in range(len(heads))], heads, rotation=90 * upright)
        axis.set_yticks([(low + high) / 2 for low, high in pairwise(edges)], [line.name for line in lines])
        axis.tick_params(length=0, bottom=False, labelbottom=False, labeltop=True, labelleft=not place)
    for line, label in zip(lines, axes[0].get_yticklabels(), strict=True):
        label.set_fontweight("bold" if line.title else "normal")
    style.note(made, "; ".join([EXPLAINED, *([LOSSES] if len(panels) > 1 else [])]))
    return made


def _lines(groups: Groups) -> Iterator[_Line]:
    """The victims, then the attacks of each threat model below its name."""
    named = style.plain(attack_names(groups))
    yield _Line("no attack")
    for known, attacks in by_knowledge(groups).items():
        if known is not None:
            yield _Line(str(known), title=True)
        for one in attacks:
            together = named[one].replace("adaptive: ", "adaptive:\N{NO-BREAK SPACE}")
            yield _Line("\n".join(textwrap.wrap(together, NAME)), one)


@dataclass(frozen=True)
class _Panel:
    """Cells under a title, how they look, and which are proven, if that is shown."""

    title: str
    look: Look
    cells: Cells
    proofs: Sequence[Sequence[bool]] = ()


def _panels(groups: Groups, lines: Sequence[_Line], victims: Sequence[Configuration]) -> list[_Panel]:
    """The proof, or the query accuracy where no test is exact; and the accuracy that is lost."""
    members = [[] if line.title else [groups.get((victim, line.attack), []) for victim in victims] for line in lines]
    proofs = [[PROOF.mean(own) for own in row] for row in members]
    left = _Panel(PROOF.title, PROOF.look, proofs, [[proven(own) for own in row] for row in members])
    if not any(map(_known, proofs)):
        left = _Panel(MATCHES.title, MATCHES.look, [[MATCHES.mean(own) for own in row] for row in members])
    return [left, _Panel("points of accuracy lost", LOST, _lost(groups, lines, victims))]


def _lost(groups: Groups, lines: Sequence[_Line], victims: Sequence[Configuration]) -> Cells:
    """Points of clean accuracy: of students below their victims, of victims below the control."""
    drops = {(point.victim, point.attack): point.accuracy_drop for point in points(groups)}
    found: dict[Any, float | None] = {
        (victim, None): fmean(costs) if (costs := present(groups.get((victim, None), []), "clean_drop")) else None
        for victim in victims
    }
    known = found | drops
    rows = [[] if line.title else [known.get((victim, line.attack)) for victim in victims] for line in lines]
    return [[None if share is None else 100 * share + 0.0 for share in row] for row in rows]


def _known(row: Sequence[float | None]) -> bool:
    return any(cell is not None for cell in row)
