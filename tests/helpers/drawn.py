"""Sweeps to draw, and what is to be read in a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.text import Text

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.catalogue import drawn, save_pictures
from mwm.runner.reporting.groups.configurations import Groups, group_by_configuration
from mwm.runner.reporting.results import TrialResult, result_rows
from tests.helpers.ended import CONFUSION, DISTILLED, HARD, MARGIN, SOFT, control, result, stolen, trial

Spec = dict[str, Any]

TRIGGERS = {"kind": "trigger_set"}
REMOVAL: list[dict[str, Any]] = [{"kind": "fine_tuning"}, {"kind": "batchnorm_reestimation"}]
BUDGETS = [attack | more for attack in (SOFT, HARD) for more in ({"query_budget": 150}, {"query_budget": 1200}, {})]


def arsenal() -> list[dict[str, Any]]:
    """Sixty attacks of many threat models, as a sweep of the whole catalogue has them."""
    asked: list[dict[str, Any]] = []
    for attack in (SOFT, HARD):
        budgets = [attack | {"query_budget": budget} for budget in (150, 400, 1200)]
        asked += [attack, *budgets, attack | {"source": "svhn", "query_budget": 1200}]
        asked += [attack | {"query_budget": budget, "views": 4} for budget in (150, 1200)]
        asked += [attack | {"query_budget": 1200, "own_labels": way} for way in ("drop", "relabel")]
        asked += [attack | {"query_budget": 1200, "filter": way} for way in ("pixels", "features")]
        asked += [attack | {"query_budget": 1200, "smoothing": count} for count in (2, 5)]
        asked += [attack | {"student": "resnet20"}, attack | {"source": "disjoint"}]
    asked += [SOFT | {"query_budget": budget, "flatten": True} for budget in (150, 1200)]
    asked += [DISTILLED, DISTILLED | {"temperature": 4.0}, DISTILLED | {"query_budget": 1200}]
    tuned: list[dict[str, Any]] = []
    for more in ({}, {"layers": "last"}, {"labels": "predicted"}, {"labels": "predicted", "source": "svhn"}):
        tuned += [{"kind": "fine_tuning", "recipe": {"epochs": count}} | more for count in (1, 5, 10, 20)]
    repaired = [{"kind": "batchnorm_reestimation", "passes": count} for count in (1, 3, 10)]
    sequences = [{"kind": "sequence", "steps": [repaired[1], step]} for step in (*asked[:4], tuned[2], tuned[3])]
    return [*asked, *tuned, *repaired, *sequences]


def attacked_often(schemes: Sequence[Spec], seeds: int = 2) -> list[TrialResult]:
    """Victims of each scheme, and what each attack of the arsenal left of them."""
    drawn_at, ended = np.random.default_rng(0), [control(seed) for seed in range(seeds)]
    for place, scheme in enumerate(schemes, 1):
        for seed in range(seeds):
            clean = 0.98 - 0.01 * place
            ended.append(result(trial(scheme, seed), clean_acc=clean, query_acc=1.0, log10_p=-80.0))
            for number, attack in enumerate(arsenal()):
                query = max(0.9 * place / len(schemes) - 0.015 * number + 0.1 * drawn_at.random(), 0.0)
                lost = 0.3 * drawn_at.random() ** 4 - 0.005
                asks = attack["kind"] in ("extraction", "distillation")
                calls = attack.get("query_budget", 50_000) if asks else None
                more = {"oracle_calls": calls, "attacker_images": 1200, "clean_acc": clean - lost}
                ended.append(stolen(scheme, seed, attack, query, **more))
    return ended


UNTESTED: dict[str, Any] = {"log10_p": None, "proven_1e3": None, "proven_1e6": None}


def swept(
    schemes: Sequence[Spec], attacks: Sequence[Spec], seeds: int = 2, *, controls: bool = True, **more: Any
) -> list[TrialResult]:
    """Victims of each scheme and their students: the later a scheme, the more it costs and the more of it is left."""
    ended = []
    for seed in range(seeds if controls else 0):
        ended += [control(seed), *(control(seed, attack, **more) for attack in attacks)]
    for place, scheme in enumerate(schemes, 1):
        for seed in range(seeds):
            clean = 0.98 - 0.03 * place / len(schemes) - seed / 1000
            ended.append(result(trial(scheme, seed), clean_acc=clean, query_acc=1.0, log10_p=-80.0))
            for number, attack in enumerate(attacks):
                query = 0.9 * place / len(schemes) * (attack.get("query_budget", 50_000) / 50_000) ** 0.3
                student = {"clean_acc": clean - 0.01 + number / 1000} | more
                ended.append(stolen(scheme, seed, attack, max(query - number / 50 - seed / 40, 0.0), **student))
    return ended


def grouped(ended: Sequence[TrialResult]) -> Groups:
    return group_by_configuration(result_rows(ended))


def weights(count: int) -> list[Spec]:
    """So many settings of two kinds of scheme."""
    return [
        MARGIN | {"weight": number / 100} if number % 3 else CONFUSION | {"mass": number / 1000}
        for number in range(1, count + 1)
    ]


CASES: dict[str, list[TrialResult]] = {
    "one of each": swept([MARGIN], [SOFT], 1, controls=False),
    "no control": swept([MARGIN, CONFUSION, TRIGGERS], [SOFT, HARD, DISTILLED], 3, controls=False),
    "a control": swept([MARGIN, CONFUSION, TRIGGERS], [SOFT, HARD, DISTILLED], 3),
    "budgets": swept([MARGIN, CONFUSION, TRIGGERS], BUDGETS),
    "long names": swept(
        [
            MARGIN | {"weight": w / 7, "step_size": s, "num_queries": n}
            for w in (1, 2)
            for s in (0.01, 0.05)
            for n in (20, 50)
        ],
        BUDGETS,
    ),
    "removal": swept([MARGIN, TRIGGERS], REMOVAL, oracle_calls=None),
    "no exact test": swept([MARGIN, TRIGGERS], [SOFT, HARD], controls=False, **UNTESTED),
    "many": swept(weights(40), BUDGETS[:4], 1),
    "many attacks": attacked_often([MARGIN, MARGIN | {"mass": 0.45}, CONFUSION, TRIGGERS]),
}
"""Sweeps that differ in what can be drawn of them."""


@cache
def figures_of(case: str, width: float = style.FULL) -> dict[str, Any]:
    """The pictures of a case."""
    return drawn(grouped(CASES[case]), width)


def draw_pictures(folder: Path, ended: Sequence[TrialResult]) -> None:
    """Write the pictures of trials that have ended as PNG, as a report does."""
    save_pictures(drawn(grouped(ended)), folder, ".png")


def texts(figure: Any) -> Iterator[Any]:
    """All texts that are seen, of a figure whose places are found."""
    with style.rules():
        figure.draw_without_rendering()
    found = [*figure.texts]
    for legend in figure.legends:
        found += [legend.get_title(), *legend.get_texts()]
    for panel in figure.axes:
        found += [panel.title, panel.xaxis.label, panel.yaxis.label, *panel.texts]
        for axis, view in ((panel.xaxis, panel.viewLim.intervalx), (panel.yaxis, panel.viewLim.intervaly)):
            ticks = [tick for tick in axis.get_major_ticks() if min(view) <= tick.get_loc() <= max(view)]
            found += [label for tick in ticks for label in (tick.label1, tick.label2)]
    yield from (text for text in found if text.get_visible() and text.get_text())


def assert_readable(figure: Any) -> None:
    """Every text is in the figure, large enough, and over no other text."""
    whole = figure.bbox.padded(1)
    found = [(text.get_text(), Text.get_window_extent(text), text) for text in texts(figure)]
    for said, box, text in found:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, f"{said!r} leaves the figure: {box} of {whole}"
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, f"{said!r} leaves the figure: {box} of {whole}"
        assert text.get_fontsize() >= 7, said
    corners = np.array([box.padded(-0.5).extents for _, box, _ in found])
    low, high = corners[:, None, :2], corners[None, :, 2:]
    below = (low < high).all(-1)
    over = np.argwhere(np.triu(below & below.T, 1))
    assert len(over) == 0, [(found[one][0], found[other][0]) for one, other in over[:5].tolist()]
