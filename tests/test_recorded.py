"""Verdicts in a real MLflow: one run for each suspect, however often it is said."""

from __future__ import annotations

import math
from pathlib import Path

from mlflow import MlflowClient

from tests.asking import Ask, Say, heard
from tests.court import FILES, QUERIES, Court


def test_each_suspect_is_one_run(ask: Ask, hall: Court, uri: str) -> None:
    words = ("--suspect", hall.key, "--suspect", hall.innocent, "--tracking-uri", uri)
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
        for name in ("matches", "p_value", "log10_p", "seconds"):
            assert math.isclose(run.data.metrics[name], finding[name])
        assert run.data.metrics["queries_asked"] == QUERIES
        assert [run.data.metrics["interval_low"], run.data.metrics["interval_high"]] == finding["interval"]
        assert run.data.params["test"] == "binomial"
        (folder,) = client.list_artifacts(run.info.run_id)
        kept = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, folder.path)]
        assert sorted(kept) == sorted(FILES)


def test_without_an_address_nothing_is_recorded(say: Say, hall: Court, tmp_path: Path) -> None:
    heard(say, "verify", "--key", str(hall.key), "--suspect", str(hall.key))
    assert not (tmp_path / "mlflow.db").exists()
