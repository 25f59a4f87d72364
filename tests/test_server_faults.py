"""MLflow servers that die, hang or stay away: the sweep goes on, and in the end everything stands there once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.servers import MlflowServer, mlflow_server
from tests.tracked import DONE, THEFT, begin, epochs, row, runs, sent, track


@pytest.mark.slow
def test_a_server_that_dies_and_returns_has_everything_in_the_end(
    uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "note.txt"
    file.write_text("a note")
    server = MlflowServer(uri, tmp_path)
    try:
        server.start()
        tracker = track(server.uri)
        begin(tracker, theft=False)
        tracker.artifact(file)
        tracker.log("v0", row(1))
        server.kill()
        began = time.monotonic()
        for epoch in range(2, 200):
            tracker.log("v0", row(epoch))
        tracker.finish("v0", DONE, artifacts=[file])
        tracker.start(THEFT, digest="a0", victim_digest="v0", data_digest="d0")
        assert time.monotonic() - began < 1, "the caller waits for a server that is away"
        assert not tracker.run_id("a0")
        server.start()
        assert tracker.close("FINISHED") == 0
    finally:
        server.kill()
    found = runs(uri)
    assert epochs(uri) == list(range(1, 200))
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]
    assert found["a0"].data.params["attack.labels"] == "hard"
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_a_server_that_is_away_at_the_end_is_not_waited_for_and_gets_the_rest_later(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mlflow_server(uri, tmp_path) as server:
        tracker = track(server.uri)
        begin(tracker)
        sent(tracker)
    for epoch in range(1, 4):
        tracker.log("v0", row(epoch))
    tracker.finish("v0", DONE)
    began = time.monotonic()
    left = tracker.close("FINISHED")
    assert left == tracker.close("FINISHED") > 0
    assert time.monotonic() - began < 20
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"warning: MLflow: {left} writes were not sent; send them later by launch.py sync trial"
    assert [run.info.status for run in runs(uri).values()] == ["RUNNING"] * 3
    with track(uri) as tracker:
        begin(tracker, outcome=DONE)
        for epoch in range(1, 4):
            tracker.log("v0", row(epoch))
        tracker.finish("v0", DONE)
    found = runs(uri)
    assert epochs(uri) == [1, 2, 3]
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]
