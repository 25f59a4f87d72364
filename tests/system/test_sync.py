"""sync after a real sweep: what MLflow has missed of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mwm.runner.workspace.journal import JOURNAL
from tests.helpers.asking import Say, heard, one_line, tree
from tests.helpers.beside import Watched, copied
from tests.helpers.refusing import Refusal, at, gate
from tests.helpers.servers import mlflow_server
from tests.system.test_launch import results


def records(path: Path) -> dict[str, dict[str, Any]]:
    """All that MLflow holds of a sweep's runs, by the digests of trials, but for ids and times."""
    client = MlflowClient(f"sqlite:///{path}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    names = {run.info.run_id: run.data.tags.get("mwm.digest", "sweep") for run in runs}
    assert len(set(names.values())) == len(runs), "a run has a twin"
    found = {}
    for run in runs:
        metrics = {
            key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
        found[names[run.info.run_id]] = {
            **{"status": run.info.status, "name": run.info.run_name, "params": run.data.params, "tags": tags},
            **{"metrics": metrics, "above": names.get(run.data.tags.get("mlflow.parentRunId", ""), "")},
            "data": [used.dataset.digest for used in run.inputs.dataset_inputs] if run.inputs else [],
            "files": sorted(item.path for item in client.list_artifacts(run.info.run_id)),
        }
    return found


@pytest.fixture
def folder(watched: Watched, tmp_path: Path, mlflow_db: Path) -> Path:
    """The storage of the sweep, at another place, with an MLflow that has missed all of it."""
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    return copied(watched, tmp_path)


def journal_of(folder: Path) -> list[dict[str, Any]]:
    """The events of the sweep."""
    return [json.loads(line) for line in (folder / "results" / "small" / JOURNAL).read_text().splitlines()]


def kill(folder: Path, events: Sequence[dict[str, Any]], rest: str) -> list[dict[str, Any]]:
    """Leave a journal as that of a driver that was killed after these events, with the beginning of one more."""
    told = [event for event in events if event["event"] != "end"]
    (folder / "results" / "small" / JOURNAL).write_text("".join(json.dumps(event) + "\n" for event in told) + rest)
    return told


@pytest.mark.slow
def test_sync_brings_all_that_a_running_sweep_would_have(watched: Watched, say: Say, folder: Path) -> None:
    expected = records(watched.folder / "mlflow.db")
    before = (folder / "results" / "small" / JOURNAL).read_bytes()
    first = heard(say, "sync", "small")
    assert first.splitlines()[-1].startswith("3 done, 1 failed, 2 skipped; brought to sqlite:///")
    found = records(folder / "mlflow.db")
    failed = next(name for name, run in expected.items() if run["status"] == "FAILED" and name != "sweep")
    for run in (expected[failed], found[failed]):
        del run["metrics"]  # no store keeps the epochs of what failed
    assert found == expected
    assert Counter(run["status"] for run in found.values()) == {"FINISHED": 3, "FAILED": 2, "KILLED": 2}
    left = tree(folder / "store")
    csv_text = (folder / "results" / "small" / "results.csv").read_text()
    heard(say, "sync", "small")
    again = records(folder / "mlflow.db")
    del again[failed]["metrics"]
    assert again == found
    assert tree(folder / "store") == left
    assert (folder / "results" / "small" / "results.csv").read_text() == csv_text
    assert (folder / "results" / "small" / JOURNAL).read_bytes() == before
    ids = [
        [(row["digest"], row["status"]) for row in csv.DictReader(text.splitlines())]
        for text in (csv_text, (watched.folder / "results" / "small" / "results.csv").read_text())
    ]
    assert ids[0] == ids[1], "the table has changed"


@pytest.mark.slow
def test_sync_of_a_killed_sweep_leaves_nothing_running(say: Say, folder: Path) -> None:
    events = journal_of(folder)
    victim = next(event for event in events if event["event"] == "finish" and event["outcome"]["status"] == "done")
    kill(folder, [event for event in events if event is not victim], '{"at": 1, "ev')
    heard(say, "sync", "small")
    found = records(folder / "mlflow.db")
    assert found["sweep"]["status"] == "KILLED"
    name = victim["outcome"]["digest"]
    assert found[name]["status"] == "FINISHED", "what the store knows of a victim"
    assert sum(run["above"] == name for run in found.values()) == 2
    assert not [run for run in found.values() if run["status"] == "RUNNING"]


@pytest.mark.slow
def test_sync_brings_all_that_the_store_alone_knows_and_no_later_than_it_was(say: Say, folder: Path) -> None:
    events = journal_of(folder)
    ends = [event for event in events if event["event"] == "finish" and event["trial"]["attack"]]
    attack = next(event["outcome"]["digest"] for event in ends if event["outcome"]["status"] == "done")
    untold = [event for event in events if attack in (event.get("digest"), event.get("outcome", {}).get("digest"))][1:]
    kept = kill(folder, [event for event in events if event not in untold], '{"at": 1, "event": "finish"}\n')
    for _ in range(2):
        status, _, err = say("sync", "small")
        assert status == 0
        assert "an event of the journal is damaged" in err
        told = json.loads((folder / "results" / "small" / "summary.json").read_text())
        assert told["seconds"] == pytest.approx(kept[-1]["at"] - kept[0]["at"], abs=0.1)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (row,) = (row for row in results(folder) if row["digest"] == attack)
    run = client.get_run(row["mlflow_run_id"])
    assert run.info.end_time <= 1000 * (kept[-1]["at"] + 1)
    epochs = [point.value for point in client.get_metric_history(run.info.run_id, "epoch")]
    assert epochs == [float(epoch) for epoch in range(1, len(epochs) + 1)]
    assert len(epochs) == max(event["rows"][-1]["epoch"] for event in untold if event["event"] == "epochs")


@pytest.mark.slow
def test_sync_says_what_is_missing_and_brings_it_where_the_sweep_went(
    watched: Watched, say: Say, tmp_path: Path, mlflow_db: Path
) -> None:
    folder = copied(watched, tmp_path)
    shutil.copy(mlflow_db, folder / "server.db")
    journal = folder / "results" / "small" / JOURNAL
    begin = next(event for event in map(json.loads, journal.read_text().splitlines()) if event["event"] == "begin")
    assert begin["experiment"] == "small"
    journal.write_text(journal.read_text().replace('"experiment":"small"', '"experiment":"lab/mine"'))
    with mlflow_server(f"sqlite:///{folder / 'server.db'}", folder) as server, gate(server.uri) as through:
        words = ("sync", "small", "--tracking-uri", through.uri)
        through.rules.append(at("runs/log-inputs", Refusal(501)))
        status, out, err = say(*words)
        assert status == 3
        assert out.splitlines()[-1].endswith(f"brought to {through.uri}, but for 6 of data sets")
        assert len(err.splitlines()) == 2
        through.rules.clear()
        assert heard(say, *words).splitlines()[-1].endswith(f"brought to {through.uri}")
    client = MlflowClient(f"sqlite:///{folder / 'server.db'}")
    experiment = client.get_experiment_by_name("lab/mine")
    assert experiment is not None
    found = [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["kind"] != "sweep"]
    assert len(found) == 6
    assert all(run.data.params and run.inputs and run.inputs.dataset_inputs for run in found)


@pytest.mark.slow
def test_sync_needs_an_mlflow(watched: Watched, say: Say, tmp_path: Path) -> None:
    folder = copied(watched, tmp_path)
    before = tree(folder / "results" / "small")
    said = say("sync", "small", "--tracking-uri", "http://user:secret@127.0.0.1:9")
    one_line(said, "--tracking-uri: http://")
    assert "secret" not in said[2]
    after = tree(folder / "results" / "small")
    assert before.keys() == after.keys()
