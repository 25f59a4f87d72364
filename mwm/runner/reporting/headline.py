"""The answer of a sweep in one sentence: which watermark keeps the most proof after its worst attack, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mwm.runner.reporting.groups.configurations import Configuration, Groups, attacked, victims_of
from mwm.runner.reporting.groups.measures import present, unmarked_victims
from mwm.runner.reporting.groups.names import attack_names, victim_names
from mwm.runner.reporting.groups.threats import threat_words
from mwm.runner.reporting.retention import ACCURACY_DROPS, RetentionPoint, points, worst_case
from mwm.trials.names import counted, format_fraction
from mwm.trials.outcome import LEVEL

MOST_LOST = ACCURACY_DROPS[-1]
"""Points of clean accuracy that the students of a worst attack may lose."""

Judged = Mapping[Configuration, RetentionPoint]
"""The worst attack on each watermark."""


@dataclass(frozen=True)
class _Names:
    """What victims and attacks are called, what a watermark costs in points of clean accuracy, and all rows."""

    victims: Mapping[Configuration, str]
    attacks: Mapping[Configuration, str]
    costs: Mapping[Configuration, float]
    groups: Groups

    def cost(self, victim: Configuration) -> str:
        """What a watermark costs, as the end of a sentence."""
        if victim not in self.costs:
            return "what it costs is unknown without a control"
        cost = f"{max(self.costs[victim], 0.0):.1f}".removesuffix(".0")
        what = "no" if cost == "0" else f"{cost} point{'s' * (cost != '1')} of"
        return f"it costs {what} clean accuracy"

    def attack(self, point: RetentionPoint) -> str:
        """An attack with its strength."""
        return self.attacks[point.attack]

    def threat(self, point: RetentionPoint) -> str:
        """What an attacker is given and spent, as a sentence of its own; none where rows do not tell."""
        members = self.groups[point.victim, point.attack]
        given = "" if point.threat is None else threat_words(point.threat, members)
        return f". Threat model of that attack: {given}" if given else ""


def headline(groups: Groups) -> str:
    """The answer of a sweep in one sentence.

    Watermarks are compared by the mean −log10 p over seeds that the worst attack leaves, of those whose students lose
    at most 5 points and of which every seed is done; where no test is exact, by query accuracy. What it costs is the
    clean accuracy missing against the control. It says as well where nothing is to be compared, and why, and how many
    settings carry no watermark: they are not compared. A second sentence says what the worst attack was given
    and how many calls it spent.
    """
    marked = [victim for victim in victims_of(groups) if dict(victim)["scheme.kind"] != "none"]
    if not any(row["status"] == "done" for rows in groups.values() for row in rows):
        return "No trial has ended well."
    if not marked:
        return "Only controls were trained: there is no watermark to compare."
    unmarked = [victim for victim, (count, known) in unmarked_victims(groups).items() if count == known]
    carried = [victim for victim in marked if victim not in unmarked]
    if not carried:
        return f"No victim carries a watermark: no key is proven ({LEVEL}) on its own network."
    carry = "carries" if len(unmarked) == 1 else "carry"
    lacking = f"; {counted(len(unmarked), 'setting')} {carry} no watermark in any seed" if unmarked else ""
    answer, threat = _answer(groups, carried)
    return f"{answer}{lacking}{threat}."


def _answer(groups: Groups, marked: Sequence[Configuration]) -> tuple[str, str]:
    """What is to be said of victims that carry a watermark, as the beginning of a sentence, and of the attack."""
    named = _Names(victim_names(victims_of(groups)), attack_names(groups), _costs(groups, marked), groups)
    tried = [victim for victim in attacked(groups) if victim in marked]
    if not tried:
        return _cheapest(marked, named), ""
    cases = worst_case(points(groups), attacked(groups))
    worst = {victim: cases[victim][MOST_LOST] for victim in tried}
    judged = {victim: point for victim, point in worst.items() if point is not None}
    if not judged:
        return f"No watermark can be judged: {_NO_ATTACK}", ""
    left_out = f"; {counted(len(tried) - len(judged), 'setting')} left out: {_NO_ATTACK}" * (len(judged) < len(tried))
    answer, best = _compared(judged, named)
    return f"{answer}{left_out}", named.threat(best)


_NO_ATTACK = f"no attack on it is done for every seed with students that lose at most {MOST_LOST} points"


def _costs(groups: Groups, victims: Sequence[Configuration]) -> dict[Configuration, float]:
    drops = {victim: present(groups.get((victim, None), []), "clean_drop") for victim in victims}
    return {victim: 100 * fmean(found) for victim, found in drops.items() if found}


def _cheapest(marked: Sequence[Configuration], named: _Names) -> str:
    """What is to be said where nothing was attacked."""
    if not named.costs:
        return f"Nothing was attacked, and without a control what {counted(len(marked), 'watermark')} cost is unknown"
    best = min(named.costs, key=lambda victim: named.costs[victim])
    which = f"of {len(named.costs)} watermarks {named.victims[best]} is the cheapest" * (len(named.costs) > 1)
    return f"Nothing was attacked; {which or named.victims[best]}: {named.cost(best)}"


def _compared(judged: Judged, named: _Names) -> tuple[str, RetentionPoint]:
    """Which watermark keeps the most, after what, and at what cost; the cheapest of equals, and the attack on it."""
    tested = {victim: point for victim, point in judged.items() if point.neg_log10_p is not None}
    left = {victim: _left(point) for victim, point in (tested or judged).items()}
    best = min(left, key=lambda victim: (-left[victim], named.costs.get(victim, float("inf"))))
    others = sum(abs(value - left[best]) < 1e-9 for value in left.values()) - 1
    point, name = judged[best], named.victims[best]
    attack = f"its worst attack ({named.attack(point)}, students lose at most {MOST_LOST} points)"
    seeds = "1 seed" if point.students == 1 else f"mean of {point.students} seeds"
    what = "proof" if tested else "queries"
    measure = "−log10 p" if tested else "query accuracy"
    number = f"{left[best] + 0.0:.1f}" if tested else format_fraction(left[best], 2)
    which = f"Of {len(left)} watermarks {name} keeps the most {what}: " if len(left) > 1 else f"{name} keeps "
    said = [f"{which}{measure} {number} after {attack}, {seeds}"]
    said += [f"{_proven(point)} at {LEVEL}" if tested else "no test is exact for its labels"]
    said += [f"{counted(others, 'other')} {'keeps' if others == 1 else 'keep'} as much"] * (others > 0)
    said.append(named.cost(best))
    if tested and not any(point.detected for point in tested.values()):
        said.insert(0, f"No watermark is proven ({LEVEL}) after its worst attack")
    return "; ".join(said), point


def _left(point: RetentionPoint) -> float:
    return point.query_acc.value if point.neg_log10_p is None else point.neg_log10_p.value


def _proven(point: RetentionPoint) -> str:
    if point.students == 1:
        return "proven" if point.detected else "not proven"
    return f"proven in {point.detected} of {point.students}"
