"""What the keys of a sweep can prove at best, told before anything starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.trials.outcome import LEVEL
from mwm.trials.trial import TrialInputs, Victim, data_key
from mwm.watermarks.schemes import Confusion, Scheme


def proof_lines(victims: Sequence[Victim], sets: TrialInputs) -> Iterator[str]:
    """What proves a copy at least, for each number of cells and classes; a control has no key of its own."""
    keys: set[tuple[int, int, str, int]] = set()
    for victim in victims:
        if (key := data_key(victim.data)) in sets and victim.scheme.kind != "none":
            classes = sets[key].classes
            keys.update((classes, *told) for told in _keys(victim.scheme, classes))
    for classes, cells, field, tests in sorted(keys):
        if cells >= (least := _fewest_cells(classes, tests)):
            proof = f"{least} secret labels and no other wrong answer prove a copy at {LEVEL}"
            yield f"a key of {cells} cells, {classes} classes: {proof}"
        else:
            few = f"warning: victim.scheme.{field} can prove no copy at {LEVEL}"
            best = f"if all of its {cells} secret labels rank first, p is {_best_p_value(cells, classes, tests):.2g}"
            yield f"{few}: {best}; with {classes} classes it takes {least} or more"


def _keys(scheme: Scheme, classes: int) -> Iterator[tuple[int, str, int]]:
    """How many cells each key of a scheme has, the field that says so with its value, and how many tests decide."""
    parts = scheme.parts()
    for part in parts:
        cells, field = _cells(part, classes)
        place = next((f"{name}." for name, value in vars(scheme).items() if value is part), "")
        yield cells, f"{place}{field}", 2 * len(parts)


def _cells(scheme: Any, classes: int) -> tuple[int, str]:
    """How many cells a scheme's key has, and the field that says so, with its value."""
    if isinstance(scheme, Confusion):
        return classes * scheme.cells_per_class, f"cells_per_class: {scheme.cells_per_class}"
    assert scheme.cells is not None, "only a control and a key of classes take what images there are"
    return scheme.cells, f"num_queries: {scheme.cells}"


def _best_p_value(cells: int, classes: int, tests: int) -> float:
    """The least p-value that so many cells can show: all secret labels rank first, in one of several tests."""
    return min(1.0, tests * (classes - 1.0) ** -cells)


def _fewest_cells(classes: int, tests: int) -> int:
    """How many cells can prove a copy at the usual level."""
    return next(cells for cells in itertools.count(1) if _best_p_value(cells, classes, tests) <= DEFAULT_LEVEL)
