"""Experiments that are not named like their sweep, and that hold several sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.helpers.asking import Say, heard, one_line
from tests.helpers.launching import sweep
from tests.helpers.tracked import ATTACK_DONE, DONE, Tracker, begin, row
from tests.helpers.verifying import VerificationCase


def track(uri: str, sweep: str) -> Tracker:
    return Tracker(uri, sweep, tags={"mwm.config_digest": sweep}, experiment="/Users/ann/all")


def test_sweeps_that_share_an_experiment_leave_each_others_runs_alone(uri: str) -> None:
    for name in ("first", "second", "first"):
        with track(uri, "other") as other:
            begin(other)
            with track(uri, name) as tracker:
                begin(tracker)
                tracker.log("v0", row(1))
                tracker.finish("v0", DONE)
                tracker.finish("a0", ATTACK_DONE)
            client = MlflowClient(uri)
            experiment = client.get_experiment_by_name("/Users/ann/all")
            assert experiment is not None
            found = client.search_runs([experiment.experiment_id], "tags.`mwm.sweep` = 'other'")
            assert [run.info.status for run in found] == ["RUNNING"] * 3
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["mwm.sweep"] for run in every) == sorted(["first", "second", "other"] * 3)
    above = {run.info.run_id: run for run in every}
    for run in every:
        if parent := run.data.tags.get("mlflow.parentRunId"):
            assert above[parent].data.tags["mwm.sweep"] == run.data.tags["mwm.sweep"]


@pytest.mark.parametrize(
    ("words", "name"), [(("--experiment", "/Users/ann/"), "/Users/ann/verdicts"), ((), "verdicts")]
)
def test_a_verdict_goes_where_it_is_sent(
    say: Say, case: VerificationCase, uri: str, words: tuple[str, ...], name: str
) -> None:
    heard(say, "verify", "--key", str(case.key), "--suspect", str(case.key), "--tracking-uri", uri, *words)
    assert MlflowClient(uri).get_experiment_by_name(name) is not None


def test_an_experiment_needs_an_mlflow(say: Say, case: VerificationCase) -> None:
    said = say("verify", "--key", str(case.key), "--suspect", str(case.key), "--experiment", "x")
    one_line(said, "--experiment: needs an MLflow; name it by --tracking-uri or MLFLOW_TRACKING_URI")


def test_databricks_wants_an_absolute_path(say: Say, tmp_path: Path) -> None:
    said = say("run", str(sweep(tmp_path)), "--tracking-uri", "databricks")
    one_line(said, "--experiment: 'small' is not allowed: Databricks wants an absolute path")
    one_line(say("run", str(sweep(tmp_path)), "--experiment", ""), "--experiment: '' is not allowed")
    assert not (tmp_path / "results").exists()
