"""What attackers are given, and which of them leaves least, as tables of a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mwm.runner.reporting.groups.configurations import Configuration, Groups, attacked
from mwm.runner.reporting.groups.measures import present, proven
from mwm.runner.reporting.groups.names import attack_names, victim_names
from mwm.runner.reporting.groups.threats import (
    COMPARABLE,
    Knowledge,
    extent,
    images_words,
    rows_of_attacks,
    rows_of_threats,
    spent_columns,
    threat_columns,
    threat_words,
    threats,
)
from mwm.runner.reporting.report.paper.cells import Made, line, measured, one, seeds, significance
from mwm.runner.reporting.report.paper.latex import Part, escaped
from mwm.runner.reporting.retention import ACCURACY_DROPS, RetentionPoint, points, worst_by_threat, worst_case

MOST_LOST = ACCURACY_DROPS[-1]

LEFT = ("neg_log10_p", "query_acc", "clean_acc")


def worst_case_by_threat(groups: Groups) -> Made:
    """The worst cases among attackers whose threat models agree in everything, each model a part of its own."""
    victims, attacks, rows = victim_names(attacked(groups)), attack_names(groups), rows_of_threats(groups)
    parts, lines = [], []
    for threat, worst in worst_by_threat(points(groups), [*victims]).items():
        cells = []
        given = threat_columns(threat) | {f"group_{name}": value for name, value in spent_columns(rows[threat]).items()}
        for victim, left in worst.items():
            own = [_line(point, groups, attacks) | {"most_points_lost": most} for most, point in left.items()]
            lines += [{"setting": victims[victim], **one, **given} for one in own]
            point, attack = left[MOST_LOST], escaped(own[-1]["attack"]) or "--"
            cells.append([victims[victim], _proof(point, groups), attack, _calls(point, groups)])
        heads = ["setting", f"≤ {MOST_LOST} points", "attack", "its calls"]
        parts.append(Part(threat_words(threat, rows[threat]), heads, cells))
    caption = (
        f"Proof, −log10 p, after the worst attack of each threat model whose students lose {MOST_LOST} points of clean "
        f"accuracy at most; above, the images and calls of all attacks of that model: {COMPARABLE}. "
        f"{seeds([*groups.values()])}. {significance([*groups.values()])}"
    )
    return caption, parts, lines


def worst_case_of_all(groups: Groups) -> Made:
    """What the attack leaves that leaves least, of those whose students lose so much at most, and what it was given."""
    victims, attacks = victim_names(attacked(groups)), attack_names(groups)
    rows, given = list[list[str]](), list[list[str]]()
    lines: list[dict[str, Any]] = []
    for victim, left in worst_case(points(groups), [*victims]).items():
        own = [{"most_points_lost": most} | _line(point, groups, attacks) for most, point in left.items()]
        lines += [{"setting": victims[victim], **one} for one in own]
        worst = left[MOST_LOST]
        figures = [_proof(point, groups) for point in left.values()]
        rows.append([victims[victim], *figures, escaped(own[-1]["attack"]) or "--"])
        given.append([victims[victim], *_given(worst, groups), _calls(worst, groups)])
    across = [f"≤ {most} points" for most in ACCURACY_DROPS]
    left_over = Part("", ["setting", *across, f"attack, ≤ {MOST_LOST} points"], rows)
    title = f"What the attack of ≤ {MOST_LOST} points was given, and what it spent"
    models = Part(title, ["setting", "threat model", "images", "start", "calls"], given)
    caption = (
        "Proof, −log10 p, after the attack that leaves least of those whose students lose so many points of clean "
        f"accuracy at most. {seeds([*groups.values()])}. {significance([*groups.values()])}"
    )
    return caption, [left_over, models], lines


def _given(point: RetentionPoint | None, groups: Groups) -> list[str]:
    """The threat model of a worst attack, its images, and its start, as cells."""
    if point is None or point.threat is None:
        return ["--"] * 3
    held = images_words(point.threat, groups[point.victim, point.attack]).removesuffix(" images")
    return [escaped(words) for words in (str(Knowledge.of(point.threat)), held, point.threat.start)]


def _calls(point: RetentionPoint | None, groups: Groups) -> str:
    """The calls that a worst attack spent on its victim, as a cell."""
    members = [] if point is None else groups[point.victim, point.attack]
    return escaped(extent(present(members, "oracle_calls")) or "–")


def _line(point: RetentionPoint | None, groups: Groups, attacks: Mapping[Configuration, str]) -> dict[str, Any]:
    """The attack of a worst case, what it was given and spent, and what it left."""
    members = [] if point is None else groups[point.victim, point.attack]
    told = {} if point is None else {"strength": point.curve.strength, "strength_field": point.curve.field or None}
    given = threat_columns(None if point is None else point.threat) | spent_columns(members)
    name = {"attack": "" if point is None else attacks[point.attack]}
    return name | told | given | {"proven": proven(members)} | line(members, LEFT)


def _proof(point: RetentionPoint | None, groups: Groups) -> str:
    return measured([] if point is None else groups[point.victim, point.attack], "neg_log10_p", one)


def threat_models(groups: Groups) -> Made:
    """What each attacker is given, and what it spends."""
    told, rows, lines = threats(groups), list[list[str]](), list[dict[str, Any]]()
    members = rows_of_attacks(groups)
    for attack, name in attack_names(groups).items():
        if attack not in told:
            continue
        threat, own = told[attack], members[attack]
        held = images_words(threat, own).removesuffix(" images") + ", true labels" * threat.true_labels
        words = [threat.access, threat.answers or "–", held, extent(present(own, "oracle_calls")) or "–", threat.start]
        rows.append([name, *map(escaped, words)])
        lines.append({"attack": name, **threat_columns(threat), **spent_columns(own)})
    caption = f"What attackers are given: {COMPARABLE}. Images: their own; calls: images that they had answered."
    headings = ["attack", "access", "answers", "images", "oracle calls", "start"]
    return caption, [Part("", headings, rows)], lines
