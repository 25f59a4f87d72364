"""Verdicts in a real MLflow: one run for each suspect, however often it is said."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray

from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.report.files import REPORT
from tests.helpers.asking import Ask, Say, heard
from tests.helpers.http import answering
from tests.helpers.refusing import Refusal, at, gate
from tests.helpers.servers import mlflow_server
from tests.helpers.verifying import FILES, QUERIES, VerificationCase, answers, saying


def test_each_suspect_is_one_run(ask: Ask, case: VerificationCase, uri: str) -> None:
    words = ("--suspect", case.key, "--suspect", case.independent, "--tracking-uri", uri)
    for _ in range(2):
        _, found = ask(*words)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("verdicts")
    assert experiment is not None
    runs = {run.data.tags["suspect"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == len(runs) == 2
    for finding in found["suspects"]:
        run = runs[finding["name"]]
        assert run.info.status == "FINISHED"
        assert run.data.tags["decision"] == finding["decision"]
        assert run.data.tags["key_commitment"] == found["key"]["commitment"]
        numbers = ("matches", "p_value", "log10_p", "p_labels", "p_scores", "wrong_answers", "mean_rank", "seconds")
        for name in numbers:
            assert math.isclose(run.data.metrics[name], finding[name])
        assert run.data.metrics["cells_asked"] == run.data.metrics["images_asked"] == QUERIES
        for name in ("rank_sum", "sequential", "unconditional"):
            assert math.isclose(run.data.metrics[f"p_{name}"], finding["tests"][name]["p_value"])
            assert math.isclose(run.data.metrics[f"log10_p_{name}"], finding["tests"][name]["log10_p"])
        assert "p_uncontrolled" not in run.data.metrics
        assert [run.data.metrics["interval_low"], run.data.metrics["interval_high"]] == finding["interval"]
        told = {"test": "rank_sum", "form": "scores", "control": "none", "null": "uniform_wrong_labels", "views": "1"}
        assert run.data.params.items() >= told.items()
        kept = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert kept == {*FILES} - {ANSWERS, "report.html"}, "both show labels of the key"


def test_a_control_is_recorded(ask: Ask, case: VerificationCase, uri: str) -> None:
    _, found = ask("--suspect", case.key, "--control", case.independent, "--tracking-uri", uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("verdicts")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["control"] == str(case.independent)
    (finding,) = found["suspects"]
    assert math.isclose(run.data.metrics["p_uncontrolled"], finding["tests"]["uncontrolled"]["p_value"])


def test_a_store_that_fails_after_all_was_asked_is_a_warning(say: Say, case: VerificationCase, uri: str) -> None:
    """The verdict stands, and the same command records it later."""
    honest, database = answers(case.key), Path(uri.removeprefix("sqlite:///"))
    whole = database.read_bytes()

    def spoil(images: NDArray[np.uint8]) -> Any:
        database.write_bytes(b"no database" * 1000)
        return honest(images)

    with answering(saying(spoil)) as suspect:
        words = ("verify", "--key", str(case.key), "--suspect", suspect.uri, "--tracking-uri", uri)
        status, out, err = say(*words)
        assert (status, len(err.splitlines())) == (0, 1)
        assert err.startswith("warning: MLflow: ")
        assert err.endswith("; when that is mended, the same command again records the rest\n")
        assert "PROVEN" in out
        database.write_bytes(whole)
        assert "PROVEN" in heard(say, *words)
        assert len(suspect.asked) == 1
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("verdicts")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_what_a_server_refuses_of_a_verdict_is_told_and_recorded_later(
    say: Say, case: VerificationCase, uri: str, tmp_path: Path
) -> None:
    with mlflow_server(uri, tmp_path) as server, gate(server.uri) as through:
        through.rules.append(at("mlflow-artifacts", Refusal(403)))
        words = ("verify", "--key", str(case.key), "--suspect", str(case.key), "--tracking-uri", through.uri)
        status, _, err = say(*words)
        assert (status, len(err.splitlines())) == (0, 1)
        assert err.startswith("warning: MLflow: writing files failed: ")
        through.rules.clear()
        heard(say, *words)
        client = MlflowClient(server.uri)
        experiment = client.get_experiment_by_name("verdicts")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params
        assert {file.path for file in client.list_artifacts(run.info.run_id)} == {*FILES} - {ANSWERS, REPORT}
        through.refused.clear()
        through.rules.append(at("runs/", Refusal(500)))
        assert say(*words)[2].startswith("warning: MLflow: writing runs failed: ")
        through.rules[:] = [at("runs/log", Refusal(500)), at("artifacts", Refusal(500))]
        heard(say, *words)
        assert not through.refused - Counter(["/api/2.0/mlflow/runs/search"]), "what is there is not written again"


def test_without_an_address_nothing_is_recorded(say: Say, case: VerificationCase, tmp_path: Path) -> None:
    heard(say, "verify", "--key", str(case.key), "--suspect", str(case.key))
    assert not (tmp_path / "mlflow.db").exists()
