"""MLflow on PostgreSQL: many writers at once, artifacts through the proxy, and a password that nobody sees."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.helpers.launching import ROOT, launched, sweep
from tests.helpers.servers import MlflowServer, Postgres, mlflow_server, postgres
from tests.helpers.tracked import epochs, history, runs, track

pytestmark = pytest.mark.slow
WRITERS = 8


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(database.make("runs"), tmp_path_factory.mktemp("server")) as running:
        yield running


def _crowded(tree: dict[str, Any]) -> None:
    tree["victim"]["seed"] = {"grid": [0, 1, 2, 3]}
    tree["victim"]["recipe"]["epochs"] = 40
    tree["resources"] = {stage: {"cpus": 0.25} for stage in ("victim", "attack")}
    tree["attacks"] = [{"kind": "extraction", "labels": "hard", "recipe": {"epochs": 2, "batch_size": 128, "lr": 0.05}}]


def at_once(found: list[Run]) -> int:
    """How many runs were under way together at most."""
    moves = [(run.info.start_time, 1) for run in found] + [(run.info.end_time, -1) for run in found]
    level = most = 0
    for _, step in sorted(moves):
        level += step
        most = max(most, level)
    return most


@pytest.mark.long
def test_a_sweep_of_eight_trials_at_a_time_is_recorded_whole(server: MlflowServer, tmp_path: Path) -> None:
    done = launched(tmp_path, "run", sweep(tmp_path, _crowded), "--tracking-uri", server.uri)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = runs(server.uri, "small")
    kinds = Counter(run.data.tags["kind"] for run in found.values())
    assert kinds == {"sweep": 1, "victim": 8, "attack": 8}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    by_id = {run.info.run_id: run for run in found.values()}
    for run in found.values():
        parent = run.data.tags.get("mlflow.parentRunId")
        above = {"sweep": None, "victim": "sweep", "attack": "victim"}[run.data.tags["kind"]]
        assert (by_id[parent].data.tags["kind"] if parent else None) == above
        if above:
            last = 40 if above == "sweep" else 2
            assert history(server.uri, run, "epoch") == [(epoch, epoch) for epoch in range(1, last + 1)]
    trials = [run for run in found.values() if run.data.tags["kind"] != "sweep"]
    assert at_once(trials) >= WRITERS
    client = MlflowClient(server.uri)
    assert found["sweep"].info.artifact_uri.startswith("mlflow-artifacts:/")
    table = client.download_artifacts(found["sweep"].info.run_id, "results.csv", str(tmp_path))
    assert Path(table).read_text().count("\n") == 17
    for run in trials:
        if run.data.tags["kind"] == "victim":
            (picture,) = client.list_artifacts(run.info.run_id)
            content = Path(client.download_artifacts(run.info.run_id, picture.path, str(tmp_path))).read_bytes()
            assert content == (tmp_path / "results" / "small" / "queries" / picture.path).read_bytes()


WRITING = """
import os, sys, traceback
from tests.helpers.tracked import DONE, ATTACK_DONE, Tracker, begin, row

def write(uri, name):
    with Tracker(uri, name, tags={}) as tracker:
        begin(tracker)
        for epoch in range(1, 151):
            tracker.log("v0", row(epoch))
            tracker.log("a0", row(epoch))
        tracker.finish("v0", DONE)
        tracker.finish("a0", ATTACK_DONE)
        tracker.log_late_metrics("v0", {"worst_query_acc": 0.5})
        return tracker.close("FINISHED")

uri, *names = sys.argv[1:]
for name in names:
    if os.fork() == 0:
        status = 1
        try:
            status = write(uri, name)
        except BaseException:
            traceback.print_exc()
        os._exit(status)
sys.exit(any([os.wait()[1] for _ in names]))
"""


def test_eight_processes_write_at_once(server: MlflowServer) -> None:
    names = [f"sweep {number}" for number in range(WRITERS)]
    asked = [sys.executable, "-c", WRITING, server.uri, *names]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    for name in names:
        found = runs(server.uri, name)
        assert {key: run.info.status for key, run in found.items()} == dict.fromkeys(("sweep", "v0", "a0"), "FINISHED")
        assert epochs(server.uri, name) == list(range(1, 151))
        assert found["v0"].data.metrics["worst_query_acc"] == 0.5


def _one(tree: dict[str, Any]) -> None:
    tree["victim"]["scheme"] = {"kind": "none"}
    tree["attacks"] = [{"kind": "extraction", "labels": "hard"}]


def test_the_password_of_a_database_is_seen_nowhere(database: Postgres, tmp_path: Path) -> None:
    uri, secret = database.make("direct"), database.password
    written = uri.replace("+psycopg2", "")
    done = launched(tmp_path, "run", sweep(tmp_path, _one), "--tracking-uri", written, "--tag", "message=hello")
    assert done.returncode == 0, done.stderr
    assert secret not in done.stdout + done.stderr
    assert f"mwm:***@127.0.0.1:{database.port}/direct" in done.stdout
    found = runs(uri, "small")
    assert Counter(run.info.status for run in found.values()) == {"FINISHED": 3}
    for run in found.values():
        assert secret not in repr(run.to_dictionary())
    seen = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"results.csv", "sweep.json"} <= {path.name for path in seen}
    for path in seen:
        assert secret.encode() not in path.read_bytes(), path


def test_a_wrong_password_is_told_without_it(database: Postgres) -> None:
    uri = database.uri("postgres").replace(database.password, "hush-hush")
    with pytest.raises(ValueError, match=r"^--tracking-uri: .*:\*\*\*@.* cannot be reached .*password auth") as caught:
        track(uri)
    assert "hush" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
