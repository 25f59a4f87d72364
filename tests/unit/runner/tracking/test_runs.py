"""What a trial says in MLflow for its page: numbers that grow with the proof, a decision in words, who made it."""

from __future__ import annotations

import getpass
from dataclasses import replace
from typing import Any

import pytest

from mwm.runner.tracking.runs import outcome_tags, shown_metrics, source_tags, trial_tags
from tests.helpers.ended import MARGIN, failed, result, trial

OUTCOME = result(trial(MARGIN)).outcome


@pytest.mark.parametrize(("logs", "shown"), [(-5.1234, 5.12), (0.0, 0.0), (-0.0, 0.0), (0.001, 0.0)])
def test_a_proof_is_told_as_a_number_that_grows(logs: float, shown: float) -> None:
    found = shown_metrics({"log10_p": logs, "worst_log10_p": logs, "loss": 1.0})
    assert found == {"log10_p": logs, "worst_log10_p": logs, "loss": 1.0, "neg_log10_p": shown} | {
        "worst_neg_log10_p": shown
    }
    assert str(found["neg_log10_p"]) == str(shown), "no minus before a nought"


def test_where_there_is_no_test_nothing_is_told() -> None:
    assert shown_metrics({"log10_p": None}) == {"log10_p": None}


@pytest.mark.parametrize(("proven", "said"), [(True, "proven"), (False, "not proven"), (None, None)])
def test_the_decision_is_told_in_words(proven: Any, said: str | None) -> None:
    assert outcome_tags(replace(OUTCOME, proven_1e3=proven)).get("decision") == said


@pytest.mark.parametrize(("marked", "said"), [(True, "true"), (False, "false"), (None, None)])
def test_a_victim_says_whether_it_carries_its_watermark(marked: Any, said: str | None) -> None:
    assert outcome_tags(replace(OUTCOME, marked=marked)).get("mwm.marked") == said


def test_an_attack_says_what_it_was_given() -> None:
    tags = trial_tags(trial(MARGIN, 0, {"kind": "fine_tuning", "labels": "predicted"}))
    assert {name: word for name, word in tags.items() if name.startswith("threat.")} == {
        **{"threat.access": "white box", "threat.images": "victim_data", "threat.true_labels": "false"},
        "threat.start": "victim's weights",
    }
    assert not [name for name in trial_tags(trial(MARGIN)) if "threat" in name]


def test_a_failure_says_why_and_decides_nothing() -> None:
    assert outcome_tags(failed(trial(MARGIN)).outcome) == {"status": "failed", "error": "the loss is nan"}


def test_mlflow_is_told_who_and_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert source_tags({"git.revision": "abc"}) == {
        **{"mlflow.source.name": "launch.py", "mlflow.source.type": "LOCAL"},
        **{"mlflow.source.git.commit": "abc", "mlflow.user": getpass.getuser()},
    }
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    found = source_tags({"git.revision": "unknown"})
    assert found["mlflow.source.type"] == "JOB"
    assert "mlflow.source.git.commit" not in found
