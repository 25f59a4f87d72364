"""Saved views: what they hold, that they fit into a tag, and that what somebody else has changed stays."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mwm.runner.tracking.client import OLD_MAX_CHARS, MlflowExperiment
from mwm.runner.tracking.views import (
    KIND,
    VIEW,
    VIEWS,
    WROTE,
    Varied,
    recorded_views,
    shown_sweeps,
    view_path,
    write_own,
    write_views,
)

VARIED = Varied(victims=["victim.scheme.kind", "victim.seed"], attacks=["attack.labels"], axes=["victim.seed"])


def state(text: str) -> dict[str, Any]:
    """The state of the page in a view's tag."""
    head, _, packed = json.loads(text)["state"].partition(";")
    assert head == "deflate"
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


@pytest.fixture
def experiment(uri: str) -> MlflowExperiment:
    return MlflowExperiment(uri, "trial")


def test_every_view_is_there_and_the_page_is_one_for_training(experiment: MlflowExperiment) -> None:
    write_views(experiment, "trial", replace(VARIED, threats=["threat.answers"]))
    tags = experiment.tags()
    assert tags[KIND] == "custom_model_development"
    assert recorded_views(tags) == {"trial": [*VIEWS]}
    attacks, victims = (state(tags[f"{VIEW}trial-{view}"]) for view in ("attacks", "victims"))
    assert "params.`attack.labels`" in attacks["selectedColumns"]
    assert "params.`attack.labels`" not in victims["selectedColumns"]
    assert "tags.`threat.answers`" in attacks["selectedColumns"]
    assert "tags.`threat.answers`" not in victims["selectedColumns"]
    assert attacks["searchFilter"] == "tags.kind = 'attack' and tags.`mwm.sweep` = 'trial'"


def test_the_front_of_a_search_is_a_column_of_victims(experiment: MlflowExperiment) -> None:
    write_views(experiment, "trial", replace(VARIED, searched=True))
    for view, there in (("victims", True), ("trade-off", True), ("attacks", False)):
        columns = state(experiment.tags()[f"{VIEW}trial-{view}"])["selectedColumns"]
        assert ("metrics.`on_front`" in columns) is there, view


def test_written_again_nothing_changes(experiment: MlflowExperiment) -> None:
    write_views(experiment, "trial", VARIED)
    before = experiment.tags()
    write_views(experiment, "trial", VARIED)
    assert experiment.tags() == before


def test_views_follow_the_sweep_but_not_what_a_user_changed(experiment: MlflowExperiment) -> None:
    write_views(experiment, "trial", VARIED)
    experiment.log_experiment_tags({VIEW + "trial-attacks": "mine"})
    write_views(experiment, "trial", Varied(victims=["victim.model.width"]))
    tags = experiment.tags()
    assert tags[VIEW + "trial-attacks"] == "mine"
    assert "params.`victim.model.width`" in state(tags[VIEW + "trial-victims"])["selectedColumns"]


def test_sweeps_of_one_experiment_have_their_own_views(experiment: MlflowExperiment, uri: str) -> None:
    for name in ("trial", "trial-attacks"):
        write_views(experiment, name, Varied(attacked=name == "trial"))
    assert {one.sweep: one.views for one in shown_sweeps(uri)} == {"trial": [*VIEWS], "trial-attacks": [*VIEWS][1:]}
    assert shown_sweeps(uri, "another") == []


def test_without_attacks_no_view_asks_for_what_they_left(experiment: MlflowExperiment) -> None:
    write_views(experiment, "trial", Varied(attacked=False))
    assert "worst" not in json.dumps([state(text) for tag, text in experiment.tags().items() if tag.startswith(VIEW)])


def test_a_view_of_very_many_parameters_fits_into_a_tag(experiment: MlflowExperiment) -> None:
    names = [f"victim.{index * 7919 % 10007:x}.{index * 104729 % 1000003:x}" for index in range(900)]
    write_views(experiment, "trial", Varied(names, names, names))
    for view in VIEWS:
        text = experiment.tags()[f"{VIEW}trial-{view}"]
        assert len(text) <= 5000
    assert f"params.`{names[0]}`" in state(experiment.tags()[f"{VIEW}trial-attacks"])["selectedColumns"]


@pytest.mark.parametrize(
    ("there", "written"),
    [
        ({}, True),
        ({"t": "mine"}, False),
        ({"t": "mine", WROTE + "t": "0123456789abcdef"}, False),
        ({WROTE + "t": "- 0123456789abcdef"}, True),
        ({WROTE + "t": "0123456789abcdef"}, False),
    ],
)
def test_a_tag_is_written_only_over_what_is_ours(there: dict[str, str], written: bool) -> None:
    found = dict(there)
    write_own(found.update, there, tag="t", text="new")
    assert (found.get("t") == "new") is written


@pytest.mark.parametrize("there", [{}, {"t": "old"}])
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_an_end_between_writes_does_no_harm(there: dict[str, str], writes: int) -> None:
    found: dict[str, str] = {}
    if there:
        write_own(found.update, found, tag="t", text="old")
    left = iter(range(writes))

    def break_off(tags: Mapping[str, str]) -> None:
        if next(left, None) is None:
            raise TimeoutError
        found.update(tags)

    with pytest.raises(TimeoutError):
        write_own(break_off, dict(found), tag="t", text="new")
    write_own(found.update, dict(found), tag="t", text="newer")
    assert found["t"] == "newer"


def test_a_text_that_an_old_server_does_not_take_is_left_out() -> None:
    found: dict[str, str] = {}

    def log(tags: Mapping[str, str]) -> None:
        if max(map(len, tags.values())) > OLD_MAX_CHARS:
            raise MlflowException("too long", INVALID_PARAMETER_VALUE)
        found.update(tags)

    write_own(log, {}, tag="t", text="x" * 300)
    assert "t" not in found
    write_own(log, found, tag="t", text="short")
    assert found["t"] == "short", "a later release may write less"

    def refuse(tags: Mapping[str, str]) -> None:
        raise MlflowException("no", INVALID_PARAMETER_VALUE)

    with pytest.raises(MlflowException):
        write_own(refuse, {}, tag="t", text="short")


def test_charts_open_as_charts_on_a_page_for_training() -> None:
    assert view_path("7", "a", "attacks") == (
        "/#/experiments/7/runs?viewStateShareKey=a-attacks&workflowType=machine_learning"
    )
    assert view_path("7", "a", "learning").endswith("&compareRunsMode=CHART")
