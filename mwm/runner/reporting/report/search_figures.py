"""The pictures of a search by Optuna: its front, and the importance of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.labels import Label, place_labels
from mwm.runner.reporting.report.search_tables import BETTER, SearchResults, by_importance, importance_note, short_names

BAR = 0.2
"""Inches between two bars."""


def front(search: SearchResults, width: float = style.FULL) -> Any:
    """Draw the trials by the first objective and each of the others: those on the front full, joined, by number.

    None with one objective, and where fewer than two trials are done.
    """
    first, *others = search["objectives"]
    done = [trial for trial in search["trials"] if trial["state"] == "done"]
    if not others or len(done) < 2:
        return None
    height = 0.5 * width if len(others) == 1 else 0.4 * width
    made = style.new_figure(width, height)
    panels = made.subplots(1, len(others), squeeze=False)[0]
    stairs = "" if len(others) > 1 else "pre" if search["objectives"][first] == "maximize" else "post"
    for panel, other in zip(panels, others, strict=True):
        style.draw_grid(panel)
        _draw_trials(panel, done, (first, other), stairs=stairs)
        panel.set(xlabel=_axis(search, first), ylabel=_axis(search, other))
        panel.margins(0.1)
        place_labels(panel, [Label(str(trial["number"]), _place(trial, (first, other))) for trial in _on_front(done)])
    entries = [
        style.entry("on the front, by number", marker="o", color=style.COLOURS[0]),
        style.entry("other trials", marker="o", color=style.GREY, alpha=0.5),
    ]
    style.add_legend(made, entries, f"{len(done)} trials of the search", height=height)
    return made


def _on_front(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [trial for trial in trials if trial["on_front"]]


def _place(trial: Mapping[str, Any], axes: tuple[str, str]) -> tuple[float, float]:
    across, up = (trial["objectives"][name] for name in axes)
    return across, up


def _axis(search: SearchResults, name: str) -> str:
    return f"{name} ({BETTER[search['objectives'][name]]})"


def _draw_trials(panel: Any, trials: Sequence[Mapping[str, Any]], axes: tuple[str, str], *, stairs: str) -> None:
    """Marks, and through those on the front the stairs that part what one of them beats from all else."""
    others = [trial for trial in trials if not trial["on_front"]]
    for some, look in (
        (others, {"color": style.GREY, "alpha": 0.5}),
        (_on_front(trials), {"color": style.COLOURS[0], "markersize": 6}),
    ):
        places = [_place(trial, axes) for trial in some]
        across, up = [place[0] for place in places], [place[1] for place in places]
        panel.plot(across, up, marker="o", linestyle="", rasterized=len(some) > style.MOST_SHAPES, **look)
    best = sorted(_place(trial, axes) for trial in _on_front(trials))
    if stairs and best:
        panel.step(*zip(*best, strict=True), where=stairs, color="k", linewidth=1.0, alpha=0.6, zorder=1)


def importance(search: SearchResults, width: float = style.FULL) -> Any:
    """Draw the importance of each parameter, a panel for each objective; None where there is none."""
    shares = {name: own for name, own in search["importance"].items() if own}
    if not shares:
        return None
    paths = by_importance(search)
    height = BAR * len(paths) + 0.6
    made = style.new_figure(width, height)
    panels = made.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    names = short_names(paths)
    for panel, (name, own) in zip(panels, shares.items(), strict=True):
        style.draw_grid(panel)
        widths = [100 * own.get(path, 0.0) for path in paths]
        panel.barh([names[path] for path in paths], widths, color=style.COLOURS[0], height=0.65)
        panel.set(xlabel="importance in %", title=name, xlim=(0, 100))
        for row, share in enumerate(widths):
            panel.annotate(f"{share:.0f}", (share, row), (3, 0), textcoords="offset points", va="center")
    panels[0].invert_yaxis()
    style.note(made, importance_note(search))
    return made
