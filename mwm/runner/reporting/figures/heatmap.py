"""The picture of a table: what every attack leaves of every setting, a cell for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.cells import CELL, DARK, Look, draw_cells, frame_cells, headings, wrapped
from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, attacked
from mwm.runner.reporting.groups.measures import present, proven
from mwm.runner.reporting.groups.names import attack_names, attacks_of, victim_names
from mwm.runner.reporting.retention import ACCURACY_DROPS, points, worst_case
from mwm.runner.reporting.tables.layout import is_turned
from mwm.trials.names import format_fraction
from mwm.trials.outcome import LEVEL

MOST_SETTINGS, MOST_ATTACKS = 60, 30
"""What is shown of a large sweep."""

NAME = 32
"""Letters of a line of a setting's name on a whole page."""

EXPLAINED = f"means over seeds; bold and framed: {LEVEL} in every seed"


@dataclass(frozen=True)
class _Measure:
    """What a panel shows: its title, the mean of a cell, and how it looks; what is proven may be framed."""

    title: str
    mean: Callable[[Members], float | None]
    look: Look
    framed: bool = False


def _mean(name: str, sign: float) -> Callable[[Members], float | None]:
    def mean(members: Members) -> float | None:
        found = present(members, name)
        return sign * fmean(found) + 0.0 if found else None

    return mean


PROOF = Look(text=lambda mean: f"{mean:.1f}")

MEASURES = (
    _Measure(f"proof, {style.PROOF}", _mean("log10_p", -1.0), PROOF, framed=True),
    _Measure("query accuracy", _mean("query_acc", 1.0), Look(text=lambda mean: format_fraction(mean, 2), most=1.0)),
)


def figure(groups: Groups, width: float = style.FULL) -> Any:
    """Draw the mean proof and the mean query accuracy of the victims and of what each attack made of them.

    A measure that no student has is left out; None if none is left, and where the matrix of attacks is drawn. The
    picture is as wide as its cells need, if that is more than `width` inches.
    """
    victims, attacks = _strongest(groups), [None, *attacks_of(groups)[:MOST_ATTACKS]]
    cells = {m.title: [[m.mean(groups.get((v, a), [])) for a in attacks] for v in victims] for m in MEASURES}
    measures = [one for one in MEASURES if any(cell is not None for row in cells[one.title] for cell in row[1:])]
    if not victims or not measures or is_turned(groups):
        return None
    named, settings = style.plain(attack_names(groups)), style.plain(victim_names(attacked(groups)))
    rows = [wrapped(settings[victim], round(NAME * width / style.FULL)) for victim in victims]
    left = style.LETTER * max(len(line) for row in rows for line in row.split("\n"))
    beside = left + len(measures) * len(attacks) * CELL <= width
    across, down = (len(measures), 1) if beside else (1, len(measures))
    width = max(width, left + len(attacks) * CELL + 0.1)
    names = ["no attack" if one is None else named[one] for one in attacks]
    heads, upright, top = headings(names, (width - left) / across / len(attacks))
    high = top + 0.25 + len(rows) * (style.LINE * (1 + max(row.count("\n") for row in rows)) + 0.07)
    made = style.new_figure(width, down * high + 0.25)
    panels = made.subplots(down, across, squeeze=False, sharey=beside).flat
    for place, (panel, measure) in enumerate(zip(panels, measures, strict=True)):
        draw_cells(panel, cells[measure.title], measure.look)
        panel.axvline(1, color=DARK, linewidth=1.5)  # the victims' own stand apart
        if measure.framed:
            frame_cells(panel, [[proven(groups.get((victim, attack), [])) for attack in attacks] for victim in victims])
        panel.set_title(measure.title)
        panel.set_xticks([place + 0.5 for place in range(len(heads))], heads, rotation=90 * upright)
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
