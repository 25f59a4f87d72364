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
    threat_columns,
    threats,
)
from mwm.runner.reporting.report.paper.cells import Made, line, measured, one, seeds, significance
from mwm.runner.reporting.report.paper.latex import Part, escaped
from mwm.runner.reporting.retention import ACCURACY_DROPS, RetentionPoint, points, worst_by_knowledge, worst_case

MOST_LOST = ACCURACY_DROPS[-1]

ENDS = (("least", min), ("most", max))

LEFT = ("neg_log10_p", "query_acc", "clean_acc")


def worst_case_by_threat(groups: Groups) -> Made:
    """The worst cases among attackers of one access, true labels and form of answers, each a part of its own."""
    victims, attacks = victim_names(attacked(groups)), attack_names(groups)
    parts, lines = [], []
    for known, worst in worst_by_knowledge(points(groups), [*victims]).items():
        rows = []
        for victim, left in worst.items():
            own = [_line(point, groups, attacks) | {"most_points_lost": most} for most, point in left.items()]
            lines += [{"setting": victims[victim], **known._asdict(), **one} for one in own]
            rows.append([victims[victim], _proof(left[MOST_LOST], groups), escaped(own[-1]["attack"]) or "--"])
        parts.append(Part(str(known), ["setting", f"≤ {MOST_LOST} points", "attack"], rows))
    caption = (
        f"Proof, −log10 p, after the worst attack of each threat model whose students lose {MOST_LOST} points of clean "
        f"accuracy at most: {COMPARABLE}. {seeds([*groups.values()])}. {significance([*groups.values()])}"
    )
    return caption, parts, lines


def worst_case_of_all(groups: Groups) -> Made:
    """What the attack leaves that leaves least, of those whose students lose so much at most, and what it was given."""
    victims, attacks = victim_names(attacked(groups)), attack_names(groups)
    rows: list[list[str]] = []
    lines: list[dict[str, Any]] = []
    for victim, left in worst_case(points(groups), [*victims]).items():
        own = [{"most_points_lost": most} | _line(point, groups, attacks) for most, point in left.items()]
        lines += [{"setting": victims[victim], **one} for one in own]
        worst = left[MOST_LOST]
        known = "" if worst is None or worst.threat is None else str(Knowledge.of(worst.threat))
        figures = [_proof(point, groups) for point in left.values()]
        rows.append([victims[victim], *figures, escaped(own[-1]["attack"]) or "--", escaped(known) or "--"])
    across = [f"≤ {most} points" for most in ACCURACY_DROPS]
    headings = ["setting", *across, f"attack, ≤ {MOST_LOST} points", "its threat model"]
    caption = (
        "Proof, −log10 p, after the attack that leaves least of those whose students lose so many points of clean "
        f"accuracy at most. {seeds([*groups.values()])}. {significance([*groups.values()])}"
    )
    return caption, [Part("", headings, rows)], lines


def _line(point: RetentionPoint | None, groups: Groups, attacks: Mapping[Configuration, str]) -> dict[str, Any]:
    """The attack of a worst case, what it was given, and what it left."""
    members = [] if point is None else groups[point.victim, point.attack]
    told = {} if point is None else {"strength": point.curve.strength, "strength_field": point.curve.field or None}
    images = present(members, "attacker_images")
    given = threat_columns(None if point is None else point.threat) | {"attacker_images": max(images, default=None)}
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
        images, calls = (present(own, measure) for measure in ("attacker_images", "oracle_calls"))
        held = images_words(threat, own).removesuffix(" images") + ", true labels" * threat.true_labels
        words = [threat.access, threat.answers or "–", held, extent(calls) or "–", threat.start]
        rows.append([name, *map(escaped, words)])
        ends = {"attacker_images": images, "oracle_calls": calls}
        line = {f"{key}_{end}": of(found) for key, found in ends.items() if found for end, of in ENDS}
        lines.append({"attack": name, **threat_columns(threat), **line})
    caption = f"What attackers are given: {COMPARABLE}. Images: their own; calls: images that they had answered."
    headings = ["attack", "access", "answers", "images", "oracle calls", "start"]
    return caption, [Part("", headings, rows)], lines
