"""Which settings a report shows of more than anyone can read."""

from __future__ import annotations

from mwm.runner.reporting import front
from mwm.runner.reporting.front import MOST_LOST
from mwm.runner.reporting.groups.configurations import Configuration, Groups, attacked, victims_of
from mwm.runner.reporting.retention import points, worst_case

MOST_SETTINGS = 50
"""Settings of victims that tables and figures show."""


def telling(groups: Groups) -> Groups:
    """The settings that answer the question, in their order, with the attacks on them; all where there are few.

    First those of controls and those on the front, then those that keep the most proof after their worst attack.
    """
    victims = victims_of(groups)
    if len(victims) <= MOST_SETTINGS:
        return groups
    on_front = {one.point.victim for one in front.points(groups) if one.on_front}
    worst = worst_case(points(groups), attacked(groups))

    def rank(victim: Configuration) -> tuple[bool, bool, float]:
        point = worst[victim][MOST_LOST] if victim in worst else None
        left = -1.0 if point is None or point.neg_log10_p is None else point.neg_log10_p.value
        return dict(victim)["scheme.kind"] != "none", victim not in on_front, -left

    shown = {*sorted(victims, key=rank)[:MOST_SETTINGS]}
    return {settings: members for settings, members in groups.items() if settings[0] in shown}
