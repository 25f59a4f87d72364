"""MLflow servers that die, hang or stay away: the sweep goes on, and in the end everything stands there once."""

from __future__ import annotations

import csv
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import command, environment, sweep
from tests.helpers.servers import MlflowServer, mlflow_server, wait_until
from tests.helpers.tracked import ATTACK, DONE, begin, epochs, history, row, runs, sent, track

pytestmark = pytest.mark.slow


@pytest.fixture
def server(started: MlflowServer) -> MlflowServer:
    """A running MLflow server over a database on disk; every test has a sweep of its own there."""
    if not started.alive:
        started.start()
    return started


def test_a_server_that_dies_and_returns_has_everything_in_the_end(
    server: MlflowServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "note.txt"
    file.write_text("a note")
    tracker = track(server.uri, "returning")
    begin(tracker, attack=False)
    tracker.artifact(file)
    tracker.log("v0", row(1))
    server.kill()
    began = time.monotonic()
    for epoch in range(2, 200):
        tracker.log("v0", row(epoch))
    tracker.finish("v0", DONE, artifacts=[file])
    tracker.start(ATTACK, digest="a0", victim_digest="v0", data_digest="d0")
    assert time.monotonic() - began < 1, "the caller waits for a server that is away"
    assert not tracker.run_id("a0")
    server.start()
    assert tracker.close("FINISHED") == 0
    found = runs(server.backend, "returning")
    assert epochs(server.backend, "returning") == list(range(1, 200))
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]
    assert found["a0"].data.params["attack.labels"] == "hard"
    assert capfd.readouterr().out == ""


def test_a_server_that_is_away_at_the_end_is_not_waited_for_and_gets_the_rest_later(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mwm.runner.tracking.sender.GRACE_SECONDS", 2.0)
    tracker = track(server.uri, "away")
    begin(tracker)
    sent(tracker)
    server.kill()
    for epoch in range(1, 4):
        tracker.log("v0", row(epoch))
    tracker.finish("v0", DONE)
    began = time.monotonic()
    left = tracker.close("FINISHED")
    assert left == tracker.close("FINISHED") > 0
    assert time.monotonic() - began < 20
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"warning: MLflow: {left} writes were not sent; send them later by launch.py sync away"
    assert [run.info.status for run in runs(server.backend, "away").values()] == ["RUNNING"] * 3
    with track(server.backend, "away") as tracker:
        begin(tracker)
        for epoch in range(1, 4):
            tracker.log("v0", row(epoch))
        tracker.finish("v0", DONE)
    found = runs(server.backend, "away")
    assert epochs(server.backend, "away") == [1, 2, 3]
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]


def test_a_server_that_hangs_holds_nobody_up_and_makes_no_twins(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    tracker = track(server.uri, "hanging")
    begin(tracker, attack=False)
    sent(tracker)
    server.hang()
    began = time.monotonic()
    tracker.start(ATTACK, digest="a0", victim_digest="v0", data_digest="d0")
    for epoch in range(1, 200):
        tracker.log("v0", row(epoch))
    tracker.finish("v0", DONE)
    assert time.monotonic() - began < 1, "the caller waits for a server that hangs"
    time.sleep(4)  # longer than a request may take: the one that creates a run is given up, and answered all the same
    server.hang(signal.SIGCONT)
    assert tracker.close("FINISHED") == 0
    found = runs(server.backend, "hanging")
    assert epochs(server.backend, "hanging") == list(range(1, 200))
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]


def _longer(tree: dict[str, Any]) -> None:
    tree["victim"]["recipe"]["epochs"] = 40
    tree["victim"]["seed"] = {"grid": [0, 1]}
    tree["attacks"] = [{"kind": "extraction", "labels": "hard"}]


@pytest.mark.long
def test_a_sweep_goes_on_while_its_server_is_dead(uri: str, tmp_path: Path) -> None:
    def done() -> int:
        return len(list(tmp_path.glob("store/*/*/outcome.json")))

    with mlflow_server(uri, tmp_path) as server, (tmp_path / "log").open("wb") as log:
        asked = command("run", sweep(tmp_path, _longer), "--tracking-uri", server.uri)
        process = subprocess.Popen(asked, cwd=tmp_path, env=environment(), stdout=log, stderr=log)
        try:
            wait_until(lambda: done() >= 1, process)
            server.kill()
            before = done()
            wait_until(lambda: done() >= before + 2, process)
            server.start()
            assert process.wait(300) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
    found = runs(uri, "small")
    assert Counter(run.data.tags["kind"] for run in found.values()) == {"sweep": 1, "victim": 4, "attack": 4}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    with (tmp_path / "results" / "small" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    for line in lines:
        run = found[line["digest"]]
        assert line["mlflow_run_id"] == run.info.run_id
        assert [step for step, _ in history(uri, run, "loss")] == list(range(1, 41))
        names = {
            name: name for name in ("clean_acc", "query_acc", "agreement", "log10_p", "oracle_calls", "clean_drop")
        }
        if line["victim.scheme.kind"] == "none":  # one run, and a row for the key that it is compared with
            key = f"key_{line['victim.scheme.num_queries']}"
            names |= {name: f"{key}.{name}" for name in ("query_acc", "log10_p")}
        else:
            names["margin_mean"] = "margin_mean"
        for name, told in names.items():
            assert run.data.metrics.get(told) == (float(line[name]) if line[name] else None), name
