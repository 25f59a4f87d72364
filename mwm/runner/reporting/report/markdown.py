"""A sweep in Markdown, for the page of MLflow: its answer, its question, and what is left of each setting."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from statistics import fmean

from mwm.runner.reporting.groups.configurations import Groups, Row, group_by_configuration, victims_of
from mwm.runner.reporting.groups.measures import present, proven, unmarked_victims
from mwm.runner.reporting.groups.names import attack_names, victim_names
from mwm.runner.reporting.headline import headline
from mwm.runner.reporting.report.search_tables import SearchResults, by_importance, number_done, short_names
from mwm.runner.reporting.retention import ACCURACY_DROPS, RetentionPoint, points, worst_case
from mwm.trials.outcome import LEVEL, UNMARKED

MOST_CHARS = 5000
"""Letters of a description."""

MOST_TOLD = 4
"""So many parameters are named of a search."""

MOST_LOST = ACCURACY_DROPS[-1]

MORE = "More settings are in the report."

HEADS = ("watermark", "cost", "proof of the victim", "proof after the worst attack", "worst attack")

HOW_TO_READ = (
    "Means over seeds. Cost: points of clean accuracy below the control. Proof: −log10 p of the test that decides; "
    f"bold where every seed is proven at {LEVEL}. Worst attack: it leaves least, of those "
    f"whose students lose {MOST_LOST} points of accuracy at most; `worst_neg_log10_p` of the views is over all attacks."
)


def description(question: str, rows: Sequence[Row], links: Mapping[str, str], *, search: SearchResults) -> str:
    """What is said of a sweep: the answer first, since the page shows one line until it is opened.

    `links` are those of the views, `search` is what Optuna found, if it searched.
    """
    groups = group_by_configuration(rows)
    told = [f"**{escaped(headline(groups))}**"]
    told += [f"**Question.** {textwrap.shorten(question, MOST_CHARS // 4, placeholder=' …')}"] if question else []
    told += [f"**Search.** {line}" for line in _found(search)]
    told.append(" · ".join(f"[{view}]({link})" for view, link in links.items()))
    head, rule, *lines = _table(groups)
    room = MOST_CHARS - sum(len(part) + 2 for part in [*told, head, rule, HOW_TO_READ, MORE])
    shown = [
        line for line, used in zip(lines, accumulate(len(line) + 1 for line in lines), strict=True) if used <= room
    ]
    more = [MORE] if len(shown) < len(lines) else []
    return "\n\n".join([*told, "\n".join([head, rule, *shown]), *more, HOW_TO_READ])


def _found(search: SearchResults) -> Iterator[str]:
    """How many trials are on the front of a search, and which parameters mattered."""
    if search.get("front"):
        short = short_names(by_importance(search))
        yield f"{len(search['front'])} of {number_done(search)} trials are on the front (`on_front` in the views)."
        for name, shares in search["importance"].items():
            largest = sorted(shares.items(), key=lambda one: -one[1])[:MOST_TOLD]
            told = [f"{escaped(short[path])} {100 * share:.0f} %" for path, share in largest]
            if told:
                yield f"What matters to {escaped(name)}: {', '.join(told)}."


def escaped(text: str) -> str:
    """Words in which no sign means anything to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def _table(groups: Groups) -> Iterator[str]:
    """A line for each setting, those that keep most after their worst attack first."""
    victims, attacks = victims_of(groups), attack_names(groups)
    named, unmarked = victim_names(victims), unmarked_victims(groups)
    worst = {victim: best[MOST_LOST] for victim, best in worst_case(points(groups), victims).items()}
    yield _line(HEADS)
    yield _line(["---", *["---:"] * 3, "---"])
    for victim in sorted(victims, key=lambda one: _kept(worst[one]), reverse=True):
        own, point = groups.get((victim, None), []), worst[victim]
        costs, logs = present(own, "clean_drop"), present(own, "log10_p")
        cost = f"{100 * fmean(costs) + 0.0:.1f}" if costs else ""
        proof = _proof(-fmean(logs), bold=proven(own)) if logs else ""
        proof += f" ({unmarked[victim][0]} {UNMARKED})" if victim in unmarked else ""
        told = [escaped(named[victim]), cost, proof]
        if point is not None:
            left = "" if point.neg_log10_p is None else _proof(_kept(point), bold=point.detected == point.students)
            told += [left, escaped(attacks[point.attack])]
        yield _line([*told, *[""] * (len(HEADS) - len(told))])


def _kept(point: RetentionPoint | None) -> float:
    return -math.inf if point is None or point.neg_log10_p is None else point.neg_log10_p.value


def _proof(value: float, *, bold: bool) -> str:
    text = f"{round(value, 1) + 0.0:.1f}"
    return f"**{text}**" if bold else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
