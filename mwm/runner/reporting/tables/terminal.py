"""The tables of a sweep that a person reads at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.text import Text

from mwm.runner.reporting.groups.configurations import Groups, group_by_configuration, victims_of
from mwm.runner.reporting.groups.names import attacks_of
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.tables.attackers import detection_table, threat_table, worst_case_table
from mwm.runner.reporting.tables.layout import Column, by_setting
from mwm.runner.reporting.tables.retention import rejecting_table, retention_table
from mwm.runner.reporting.tables.steps import step_summary

MOST_DIGESTS, NETWORKS = 3, "launch.py model DIGEST FILE writes a network, its end names the form; all in results.csv"


def tables(results: Sequence[TrialResult]) -> Iterator[Group]:
    """What a person reads at the end: what survives, whom it detects, what the best attacker leaves, and the networks.

    Detection, the best attacker and the threat models only where something was attacked, steps only of sequences,
    networks where a victim is done.
    """
    groups = group_by_configuration(result_rows(results))
    yield from retention_table(groups)
    if attacks_of(groups):
        yield detection_table(groups)
        yield worst_case_table(groups)
        yield from filter(None, (threat_table(groups), rejecting_table(groups), step_summary(groups)))
    if any(row["status"] == "done" for victim in victims_of(groups) for row in groups.get((victim, None), [])):
        yield network_table(groups)


def network_table(groups: Groups) -> Group:
    """The digests of each setting's finished victims, the first few of them, by which commands name a network."""
    done = [[row for row in groups.get((one, None), []) if row["status"] == "done"] for one in victims_of(groups)]
    cells = [Text("\n".join([*dict.fromkeys(row["digest"] for row in rows)][:MOST_DIGESTS])) for rows in done]
    return by_setting(victims_of(groups), [Column("victims", cells)], [NETWORKS])
