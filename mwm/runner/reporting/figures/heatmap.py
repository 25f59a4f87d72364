"""The picture of a table: what every attack leaves of every setting, a cell for each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, attacked
from mwm.runner.reporting.groups.measures import present, proven
from mwm.runner.reporting.groups.names import attack_names, attacks_of, victim_names
from mwm.runner.reporting.retention import ACCURACY_DROPS, points, worst_case
from mwm.trials.names import format_fraction
from mwm.trials.outcome import LEVEL

CELL = 0.36
"""Inches: the least width of a cell."""

MOST_SETTINGS, MOST_ATTACKS = 60, 30
"""What is shown of a large sweep."""

NAME, HEADING = 32, 24
"""Letters of a line of a setting's name on a whole page, and of a heading that stands upright."""

MOST_LINES = 3

DARK = "#111111"
"""What is drawn on pale cells. It is not black, which follows the page: a cell stays as it is in the dark."""

EXPLAINED = f"means over seeds; bold and framed: {LEVEL} in every seed"


@dataclass(frozen=True)
class _Measure:
    """What a panel shows: its title, the mean of a cell, how that is written, and how much of it is darkest."""

    title: str
    mean: Callable[[Members], float | None]
    text: Callable[[float], str]
    most: float | None
    framed: bool


def _mean(name: str, sign: float) -> Callable[[Members], float | None]:
    def mean(members: Members) -> float | None:
        found = present(members, name)
        return sign * fmean(found) + 0.0 if found else None

    return mean


MEASURES = (
    _Measure(f"proof, {style.PROOF}", _mean("log10_p", -1.0), lambda mean: f"{mean:.1f}", None, True),
    _Measure("query accuracy", _mean("query_acc", 1.0), lambda mean: format_fraction(mean, 2), 1.0, False),
)


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw the mean proof and the mean query accuracy of the victims and of what each attack made of them.

    A measure that no student has is left out; None if none is left. The picture is as wide as its cells need, if that
    is more than `width` inches.
    """
    victims, attacks = _strongest(groups), [None, *attacks_of(groups)[:MOST_ATTACKS]]
    cells = {m.title: [[m.mean(groups.get((v, a), [])) for a in attacks] for v in victims] for m in MEASURES}
    measures = [one for one in MEASURES if any(cell is not None for row in cells[one.title] for cell in row[1:])]
    if not victims or not measures:
        return None
    named = style.plain(attack_names(groups))
    settings = style.plain(victim_names(attacked(groups)))
    rows = [_wrapped(settings[victim], round(NAME * width / style.FULL)) for victim in victims]
    left = style.LETTER * max(len(line) for row in rows for line in row.split("\n"))
    beside = left + len(measures) * len(attacks) * CELL <= width
    across, down = (len(measures), 1) if beside else (1, len(measures))
    width = max(width, left + len(attacks) * CELL + 0.1)
    headings, upright = _headings(
        ["no attack" if one is None else named[one] for one in attacks], (width - left) / across / len(attacks)
    )
    top = max(
        style.LETTER * max(map(len, one.split("\n"))) if upright else style.LINE * (one.count("\n") + 1)
        for one in headings
    )
    high = top + 0.25 + len(rows) * (style.LINE * (1 + max(row.count("\n") for row in rows)) + 0.07)
    made = style.new_figure(width, down * high + 0.25)
    panels = made.subplots(down, across, squeeze=False, sharey=beside).flat
    for place, (panel, measure) in enumerate(zip(panels, measures, strict=True)):
        _draw(panel, measure, cells[measure.title])
        if measure.framed:
            _frame(panel, [[proven(groups.get((victim, attack), [])) for attack in attacks] for victim in victims])
        panel.set_title(measure.title)
        panel.set_xticks([place + 0.5 for place in range(len(headings))], headings, rotation=90 * upright)
        panel.set_yticks([place + 0.5 for place in range(len(rows))], rows)
        panel.tick_params(length=0, bottom=False, labelbottom=False, labeltop=True, labelleft=not (beside and place))
    style.note(made, "; ".join([EXPLAINED, *_left_out(groups, len(victims))]))
    return made


def _strongest(groups: Groups) -> list[Configuration]:
    """The settings that are shown, in their order: all, or those that keep most after the worst attack on them."""
    victims = attacked(groups)
    if len(victims) <= MOST_SETTINGS:
        return victims
    kept = {
        victim: (point.neg_log10_p.value if point.neg_log10_p else 0.0, point.query_acc.value)
        for victim, left in worst_case(points(groups), victims).items()
        if (point := left[ACCURACY_DROPS[-1]])
    }
    chosen = {*sorted(victims, key=lambda victim: kept.get(victim, (-1.0, 0.0)), reverse=True)[:MOST_SETTINGS]}
    return [victim for victim in victims if victim in chosen]


def _left_out(groups: Groups, shown: int) -> Iterator[str]:
    """What of a large sweep is not shown."""
    if (settings := len(attacked(groups))) > shown:
        yield f"{shown} of {settings} settings: those that keep most after the worst attack of ≤ 5 points"
    if (attacks := len(attacks_of(groups))) > MOST_ATTACKS:
        yield f"{MOST_ATTACKS} of {attacks} attacks"


def _wrapped(text: str, letters: int) -> str:
    return "\n".join(textwrap.wrap(text, max(letters, 8), max_lines=MOST_LINES, placeholder=" …"))


def _headings(names: Sequence[str], width: float) -> tuple[list[str], bool]:
    """Headings of columns so many inches wide, and whether they must stand upright."""
    letters = int(width / style.LETTER)
    upright = any(len(word) > letters for name in names for word in name.split())
    return [_wrapped(name, HEADING if upright else letters) for name in names], upright


def _draw(panel: Any, measure: _Measure, cells: Sequence[Sequence[float | None]]) -> None:
    """Cells from pale to dark, each with its number; the victims' own stand apart."""
    from matplotlib.colors import Normalize, SymLogNorm

    known = [cell for row in cells for cell in row if cell is not None]
    most = measure.most or max(*known, 10.0)
    norm: Any = Normalize(0, most) if measure.most else SymLogNorm(10, linscale=2, vmin=0, vmax=most)
    numbers = [[float("nan") if cell is None else cell for cell in row] for row in cells]
    image = panel.pcolormesh(np.ma.masked_invalid(numbers), cmap="Blues", norm=norm, edgecolor="face", linewidth=0.2)
    panel.set_ylim(len(cells), 0)  # the first on top; to turn an axis that panels share would turn it back
    for down, row in enumerate(cells):
        for across, cell in enumerate(row):
            shade = image.cmap(norm(cell)) if cell is not None else None
            ink = "k" if shade is None else DARK if luminance(shade) > 0.19 else "white"
            panel.text(
                across + 0.5,
                down + 0.5,
                "–" if cell is None else measure.text(cell),
                color=ink,
                ha="center",
                va="center",
            )
    panel.axvline(1, color=DARK, linewidth=1.5)


def luminance(shade: Sequence[float]) -> float:
    """How bright a colour is (WCAG 2): at .19 dark and white letters are equally plain."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in shade[:3]]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _frame(panel: Any, proofs: Sequence[Sequence[bool]]) -> None:
    """A frame in each cell that is proven, and bold figures."""
    from matplotlib.patches import Rectangle

    texts = iter(panel.texts)
    for down, row in enumerate(proofs):
        for across, is_proven in enumerate(row):
            text = next(texts)
            if is_proven:
                text.set_fontweight("bold")
                corner = (across + 0.06, down + 0.08)
                panel.add_patch(Rectangle(corner, 0.88, 0.84, fill=False, edgecolor=text.get_color(), linewidth=0.7))
