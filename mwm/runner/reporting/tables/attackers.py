"""What attackers are given, whom their networks give away, and which of them leaves least, as tables for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.text import Text

from mwm.attacks.threat import ThreatModel
from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members, attacked
from mwm.runner.reporting.groups.measures import by_scheme, detection_rate, present
from mwm.runner.reporting.groups.names import attack_names, attacks_of, curve_names, victim_names
from mwm.runner.reporting.groups.strength import curves
from mwm.runner.reporting.groups.threats import (
    COMPARABLE,
    calls_words,
    extent,
    images_words,
    rows_of_attacks,
    rows_of_threats,
    threat_words,
    threats,
)
from mwm.runner.reporting.retention import (
    ACCURACY_DROPS,
    RetentionPoint,
    points,
    worst_by_threat,
    worst_case,
)
from mwm.runner.reporting.tables.layout import (
    WIDTH,
    Column,
    by_setting,
    mean_of,
    pair,
    pointer,
    setting_columns,
    table,
    width_of,
)
from mwm.runner.reporting.tables.retention import PAIR
from mwm.trials.names import format_fraction
from mwm.trials.outcome import LEVEL

LEAST, MOST = 26, 44
"""Letters of a line of words that stand beside figures."""

MOST_LOST = ACCURACY_DROPS[-1]

DETECTED = (
    f"students detected ({LEVEL}) of a scheme, all its settings and seeds, and the 95 % interval of their share",
    "a student of a control counts once, as detected if any of the keys is proven on it",
)
WORST_CASE = (
    f"{PAIR} after the attack that leaves the least proof, of those that lose so many points of accuracy at most"
)
WORST_BY_THREAT = (
    f"{PAIR} after the worst attack of each threat model that loses {MOST_LOST} points at most, and the calls that it "
    "spent; left of it the images and calls of all attacks of that model"
)
THREATS = f"images: the attacker's own; calls: images that it had answered; {COMPARABLE}"


def detection_table(groups: Groups) -> Group:
    """How many students of each attack are detected, by kind of scheme, all configurations and seeds together."""
    found, named = by_scheme(groups), attack_names(groups)
    schemes = list(dict.fromkeys(scheme for scheme, _ in found))
    columns = [Column("attack", [Text(name) for name in named.values()], words=True)]
    columns += [Column(one, [_share(found.get((one, attack), [])) for attack in named]) for one in schemes]
    return table(columns, [*(DETECTED if "none" in schemes else DETECTED[:1]), *pointer(groups)])


def _share(members: Members) -> Text:
    told = detection_rate(members)
    if not told["students"]:
        return Text("-")
    interval = f"[{format_fraction(told['low'], 2)}, {format_fraction(told['high'], 2)}]"
    return Text(f"  {told['detected']}/{told['students']} {interval}")


def threat_table(groups: Groups) -> Group | None:
    """What each attacker is given, and what it spends: attacks of the same threat model stand on one line.

    There they are told without their strength. None where no row tells threat models.
    """
    told, rows = threats(groups), rows_of_attacks(groups)
    attacks = [attack for attack in attacks_of(groups) if attack in told]
    alike: dict[ThreatModel, list[Configuration]] = {}
    for attack in attacks:
        alike.setdefault(told[attack], []).append(attack)
    if not alike:
        return None
    curve_of, named = curves(attacks), curve_names(attacks)
    given = _given([*alike], [[row for attack in own for row in rows[attack]] for own in alike.values()])
    lines = ["; ".join(dict.fromkeys(named[curve_of[one].attack] for one in own)) for own in alike.values()]
    room = WIDTH - width_of(given)
    return table([*given, Column("attacks", [_filled(line, room) for line in lines], words=True)], [THREATS])


def _given(models: Sequence[ThreatModel], members: Sequence[Members]) -> list[Column]:
    """What attackers of each threat model are given, and what those that were measured spent."""
    pairs = [*zip(models, members, strict=True)]
    told: dict[str, list[str]] = {
        "access": [threat.access for threat in models],
        "true labels": ["yes" if threat.true_labels else "no" for threat in models],
        "answers": [threat.answers or "–" for threat in models],
        "calls": [extent(present(own, "oracle_calls")) or "–" for own in members],
        "images": [images_words(threat, own).removesuffix(" images") for threat, own in pairs],
        "start": [threat.start for threat in models],
    }
    if any(threat.adaptive for threat in models):
        told["adaptive to"] = [threat.adaptive or "–" for threat in models]
    return [Column(head, [Text(f"{word} ") for word in words], words=True) for head, words in told.items()]


def worst_case_table(groups: Groups, *, width: float = WIDTH) -> Group:
    """Worst-case retention: what the best attacker leaves that gives up 1, 3 or 5 points of accuracy at most.

    Of the last also which attack it is, what that was given, and how many calls it spent.
    """
    found, named = points(groups), attack_names(groups)
    best = worst_case(found, attacked(groups))
    figures = [
        Column(f"≤{most} lost", [_left(attackers[most]) for attackers in best.values()]) for most in ACCURACY_DROPS
    ]
    worst = [attackers[MOST_LOST] for attackers in best.values()]
    room = (width - width_of([*setting_columns([*best]), *figures])) / 2
    told: dict[str, list[str]] = {
        "worst attack": ["" if one is None else named[one.attack] for one in worst],
        "its threat model": [_model(one, groups) for one in worst],
    }
    words = [
        Column(head, [_filled(one, room - 2) for one in lines], words=True)
        for head, lines in told.items()
        if any(lines)
    ]
    counts = sorted({point.students for left in best.values() for point in left.values() if point is not None})
    notes = [WORST_CASE, *([mean_of(counts, "mean")] if counts else [])]
    tried = sum(attack is not None for _, attack in groups)
    if missing := tried - sum(point.complete for point in found):
        notes.append(f"left out: {missing} of {tried} attacks, whose seeds are not all done")
    return by_setting([*best], [*figures, *words], ["; ".join(notes)])


def _model(point: RetentionPoint | None, groups: Groups) -> str:
    """What the attack of a worst case was given there, and what it spent, in words; empty where rows do not tell."""
    if point is None or point.threat is None:
        return ""
    return threat_words(point.threat, groups[point.victim, point.attack])


def worst_by_threat_table(groups: Groups) -> Group | None:
    """The worst case of each setting among attackers of one threat model: a line for each model, settings side by side.

    A line says how many images and calls all attacks of that model had, a cell which attack is the worst, and its own
    calls. None where the threat models of all attackers agree.
    """
    named, rows, settings = attack_names(groups), rows_of_threats(groups), victim_names(attacked(groups))
    found = worst_by_threat(points(groups), [*settings])
    columns = [
        Column(name, [_worst(best[victim][MOST_LOST], groups, named) for best in found.values()])
        for victim, name in settings.items()
    ]
    notes = [f"{WORST_BY_THREAT}; {COMPARABLE}"]
    given = _given([*found], [rows[threat] for threat in found])
    return table([*given, *columns], notes) if len(found) > 1 else None


def _worst(point: RetentionPoint | None, groups: Groups, named: Mapping[Configuration, str]) -> Text:
    """What the attack of a worst case left, its name, and the calls that it spent there."""
    told = _left(point)
    if point is None:
        return told
    calls = calls_words(groups[point.victim, point.attack])
    lines = [told.plain, *textwrap.wrap(named[point.attack], LEAST), *([f"spent {calls}"] if calls else [])]
    return Text("\n".join(lines), told.style)


def _left(point: RetentionPoint | None) -> Text:
    if point is None:
        return Text(" -")
    proof = None if point.neg_log10_p is None else point.neg_log10_p.value
    return Text(pair(proof, point.query_acc.value), "bold" if point.detected == point.students else "")


def _filled(words: str, room: float) -> Text:
    """Words on lines of so many letters at most, with a space in front that parts them from figures."""
    letters = int(min(max(room, LEAST), MOST)) if room < float("inf") else len(words) + 1
    return Text("\n".join(f"  {line}" for line in textwrap.wrap(words, max(letters - 2, 1))))
