"""What of a cluster a trial takes: a place for each of its workers."""

from __future__ import annotations

import pytest

from mwm.runner.execution import cluster
from mwm.runner.sweeps.sweep import Resources, TrialResources

NODES = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 8.0}]


def asked(monkeypatch: pytest.MonkeyPatch, **victim: float) -> tuple[str, int]:
    """What is said of a victim that takes so much, and how many victims there may be at a time."""
    monkeypatch.setattr(cluster, "_nodes", lambda: NODES)
    wanted = Resources(victim=TrialResources(**victim), attack=TrialResources(cpus=100.0))  # type: ignore[arg-type]
    told = cluster._missing_resources(Resources(victim=wanted.victim))
    return told, cluster.concurrent_trials(wanted)


@pytest.mark.parametrize(
    ("victim", "at_once"),
    [
        ({"workers": 2}, 7),
        ({"workers": 3, "gpus": 1}, 1),
        ({"workers": 2, "cpus": 4}, 1),
        ({"workers": 1, "gpus": 0.5}, 6),
    ],
)
def test_workers_may_lie_on_several_nodes(
    victim: dict[str, float], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(monkeypatch, **victim) == ("", at_once)


def test_more_workers_than_places_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told, _ = asked(monkeypatch, workers=4, gpus=1)
    assert told == "resources.victim.workers: 4 is not allowed: the nodes have room for 3"
    told, _ = asked(monkeypatch, workers=5, cpus=3)
    assert told == "resources.victim.workers: 5 is not allowed: the nodes have room for 3"


def test_a_trial_is_placed_whole() -> None:
    group = cluster._placement_group(TrialResources(cpus=2, gpus=1, workers=3))
    assert group.bundles == [{"CPU": 2.0, "GPU": 1.0}] * 3
