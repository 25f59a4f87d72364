"""Tracking against a real MLflow: runs nest, nothing is written twice, nothing stays running, nothing is raised."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.data import get_source
from mlflow.entities import Run

from mwm.attacks import Extraction
from mwm.data import Digits
from mwm.models import Cnn
from mwm.schemes.margin import Margin
from mwm.tracking import LONGEST_TAG, LONGEST_VALUE, Tracker
from mwm.trial import Outcome, Row, Trial, Victim, complete_attack

VICTIM = Victim(data=Digits(), model=Cnn(), scheme=Margin(num_queries=20, step_size=4 / 255))
MARKED = Trial(victim=VICTIM)
THEFT = Trial(victim=VICTIM, attack=complete_attack(Extraction(labels="hard"), VICTIM))
NAMES: dict[str, Any] = {"digest": "v0", "victim_digest": "v0", "data_digest": "d0", "device": "cpu"}
NUMBERS: dict[str, Any] = {"clean_acc": 0.75, "query_acc": 0.5, "p_value": 0.0, "log10_p": -9.5, "kept_epoch": 3}
DONE = Outcome(status="done", **NAMES, **NUMBERS)
STOLEN = replace(DONE, digest="a0", agreement=0.25, oracle_calls=64)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: to make one takes seconds, to copy it does not."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(migrated: Path, tmp_path: Path) -> str:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def track(uri: str, sweep: str = "trial") -> Tracker:
    return Tracker(uri, sweep, tags={"git.revision": "abc"}, params={"search": "grid", "long": "x" * 9000})


def begin(tracker: Tracker, *, theft: bool = True) -> None:
    tracker.start(MARKED, digest="v0", victim_digest="v0", data_digest="d0")
    if theft:
        tracker.start(THEFT, digest="a0", victim_digest="v0", data_digest="d0")


def row(epoch: int) -> Row:
    return Row(epoch=epoch, loss=1 / epoch, lr=0.1, val_acc=0.5, query_acc=0.25, epoch_seconds=0.125)


def runs(uri: str, sweep: str = "trial") -> dict[str, Run]:
    """Every run of a sweep by its digest, the sweep's own under "sweep"; fails if a digest has two runs."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    found = list(client.search_runs([experiment.experiment_id]))
    named = {run.data.tags.get("mwm.digest", run.data.tags["kind"]): run for run in found}
    assert len(named) == len(found), "a run has a twin"
    return named


def history(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, metric)]


def test_runs_nest_and_carry_names_tags_params_and_data(uri: str) -> None:
    tracker = track(uri)
    with pytest.raises(AssertionError, match="attack a0 before its victim v0"):
        tracker.start(THEFT, digest="a0", victim_digest="v0", data_digest="d0")
    begin(tracker)
    found = runs(uri)
    sweep, victim, theft = found["sweep"], found["v0"], found["a0"]
    assert [run.info.status for run in (sweep, victim, theft)] == ["RUNNING"] * 3
    assert victim.data.tags["mlflow.parentRunId"] == sweep.info.run_id
    assert theft.data.tags["mlflow.parentRunId"] == victim.info.run_id == tracker.run_id("v0")
    shown = [run.info.run_name for run in (sweep, victim, theft)]
    assert shown == ["trial", "margin n=20 4/255 seed 0", "extraction hard seed 0"]
    assert tracker.run_id("unknown") == ""
    expected = {"kind": "attack", "mwm.digest": "a0", "mwm.victim_digest": "v0", "mwm.data_digest": "d0"}
    expected |= {"scheme": "margin", "attack": "extraction", "seed": "0", "git.revision": "abc"}
    assert {key: theft.data.tags.get(key) for key in expected} == expected
    assert sweep.data.params == {"search": "grid", "long": "x" * LONGEST_VALUE}
    assert victim.data.params["victim.scheme.step_size"] == str(4 / 255)
    assert victim.data.params["victim.recipe.momentum"] == "0.0"
    assert not [key for key in victim.data.params if key.startswith("attack")]
    assert victim.data.params.items() < theft.data.params.items()
    assert theft.data.params["attack.labels"] == "hard"
    for run in (victim, theft):
        assert run.inputs is not None
        (used,) = (entry.dataset for entry in run.inputs.dataset_inputs)
        assert (used.name, used.digest) == ("digits", "d0")
        assert "Digits(" in str(get_source(used).to_dict())
    tracker.close("FINISHED")


def test_rows_become_metrics_and_outcomes_the_last_word(uri: str, tmp_path: Path) -> None:
    tracker = track(uri)
    begin(tracker)
    for epoch in range(1, 4):
        tracker.log("v0", row(epoch))
        tracker.log("a0", row(epoch))
    picture = tmp_path / "queries.png"
    picture.write_bytes(b"png")
    tracker.finish("v0", DONE, artifacts=[picture])
    tracker.finish("a0", replace(STOLEN, status="skipped", error="its victim failed"))
    tracker.measure("v0", {"worst": 0.125})
    tracker.artifact(picture)
    tracker.close("FINISHED")
    client, found = MlflowClient(uri), runs(uri)
    victim = found["v0"]
    assert history(uri, victim, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert (NUMBERS | {"epoch": 3, "worst": 0.125}).items() <= victim.data.metrics.items()
    assert "agreement" not in victim.data.metrics
    assert found["a0"].data.metrics["oracle_calls"] == 64
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]
    assert (victim.data.tags["status"], victim.data.tags["device"]) == ("done", "cpu")
    assert [found[name].data.tags.get("error") for name in ("v0", "a0")] == [None, "its victim failed"]
    files = [client.list_artifacts(found[name].info.run_id) for name in ("v0", "sweep")]
    assert [[file.path for file in listed] for listed in files] == [["queries.png"]] * 2
    assert victim.info.artifact_uri.startswith(tmp_path.as_uri()), "files belong beside the database"


def test_after_a_kill_runs_go_on_without_twins(uri: str) -> None:
    first = track(uri)
    begin(first)
    for epoch in range(1, 4):
        first.log("v0", row(epoch))  # epoch 1 is sent at once, the others die with the driver
    before = {name: run.info.run_id for name, run in runs(uri).items()}
    del first
    second = track(uri)
    begin(second)
    for epoch in range(1, 6):
        second.log("v0", row(epoch))
    second.finish("v0", DONE)
    second.close("KILLED")
    found = runs(uri)
    assert {name: run.info.run_id for name, run in found.items()} == before
    assert [step for step, _ in history(uri, found["v0"], "loss")] == [1, 2, 3, 4, 5]
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["KILLED", "FINISHED", "KILLED"]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=3))
def test_replayed_epochs_are_logged_once(uri: str, sessions: list[tuple[int, int]]) -> None:
    sweep, last = f"replay {sessions}", 0
    for replayed, new in sessions:
        tracker = track(uri, sweep)
        begin(tracker, theft=False)
        for epoch in range(max(1, last - replayed), last + new + 1):
            tracker.log("v0", row(epoch))
        tracker.close("KILLED")
        last += new
    found = runs(uri, sweep)
    assert history(uri, found["v0"], "epoch") == [(epoch, epoch) for epoch in range(1, last + 1)]


def test_the_same_outcome_again_writes_nothing(uri: str) -> None:
    ended = []
    for _ in range(2):
        tracker = track(uri)
        begin(tracker, theft=False)
        ended.append((runs(uri)["v0"].info.status, runs(uri)["v0"].info.end_time))
        tracker.log("v0", row(1))
        tracker.finish("v0", DONE)
        tracker.measure("v0", {"mean_query_acc": 0.5})
        tracker.close("FINISHED")
    victim = runs(uri)["v0"]
    assert history(uri, victim, "clean_acc") == [(1, 0.75)]
    assert history(uri, victim, "mean_query_acc") == [(1, 0.5)]
    assert ended == [("RUNNING", None), ("FINISHED", victim.info.end_time)]


def test_a_failed_trial_that_is_mended_loses_its_error(uri: str) -> None:
    for outcome, status in ((replace(DONE, status="failed", error="boom" * 5000), "FAILED"), (DONE, "FINISHED")):
        tracker = track(uri)
        begin(tracker, theft=False)
        assert runs(uri)["v0"].info.status == "RUNNING"
        tracker.finish("v0", outcome)
        tracker.close("FINISHED")
        run = runs(uri)["v0"]
        assert run.info.status == status
        assert run.data.tags["error"] == outcome.error[:LONGEST_TAG]


def test_close_leaves_nothing_running_and_ends_all_writing(uri: str) -> None:
    tracker = track(uri)
    begin(tracker)
    tracker.close("FAILED")
    tracker.close("FINISHED")
    tracker.log("v0", row(1))
    tracker.finish("v0", DONE)
    begin(tracker)
    found = runs(uri)
    assert {name: run.info.status for name, run in found.items()} == {"sweep": "FAILED", "v0": "KILLED", "a0": "KILLED"}
    assert "loss" not in found["v0"].data.metrics


def test_a_run_deleted_by_hand_costs_a_warning(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = track(uri)
    begin(tracker)
    MlflowClient(uri).delete_run(tracker.run_id("v0"))
    tracker.log("v0", row(1))
    tracker.finish("v0", DONE)
    tracker.finish("a0", STOLEN, artifacts=[Path("nowhere.png")])
    tracker.close("FINISHED")
    assert runs(uri)["a0"].info.status == "FINISHED"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "nowhere.png is not there" in said[-1]


def test_a_deleted_sweep_is_refused(uri: str) -> None:
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("trial"))
    with pytest.raises(ValueError, match="'trial' was deleted there; restore it or choose another name"):
        track(uri)


@pytest.mark.slow
@pytest.mark.parametrize("silent", [True, False])
def test_a_server_that_does_not_answer_is_refused_soon_without_its_password(silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if silent else 1
        began = time.monotonic()
        with pytest.raises(
            ValueError, match=r"^--tracking-uri: http://ann:\*\*\*@127.0.0.1:\d+ cannot be reached"
        ) as caught:
            track(f"http://ann:hush@127.0.0.1:{port}")
        assert time.monotonic() - began < 15
    assert "hush" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_a_server_that_dies_and_returns_has_everything_in_the_end(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    address, file = f"http://127.0.0.1:{port}", Path(uri.removeprefix("sqlite:///")).with_name("note.txt")
    file.write_text("a note")
    with server(uri, port):
        tracker = track(address)
        begin(tracker, theft=False)
        tracker.artifact(file)
        tracker.log("v0", row(1))
    began = time.monotonic()
    for epoch in range(2, 200):
        tracker.log("v0", row(epoch))
    tracker.finish("v0", DONE, artifacts=[file])
    tracker.start(THEFT, digest="a0", victim_digest="v0", data_digest="d0")
    assert time.monotonic() - began < 10
    assert not tracker.run_id("a0")
    with server(uri, port):
        tracker.close("FINISHED")
    found = runs(uri)
    assert [step for step, _ in history(uri, found["v0"], "loss")] == list(range(1, 200))
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]
    assert found["a0"].data.params["attack.labels"] == "hard"
    assert capfd.readouterr().out == ""


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server(uri: str, port: int) -> Iterator[None]:
    """A real MLflow server, ended with all its processes."""
    folder = Path(uri.removeprefix("sqlite:///")).parent
    options = f"--host 127.0.0.1 --port {port} --workers 1 --backend-store-uri {uri} --artifacts-destination files"
    command = [sys.executable, "-m", "mlflow", "server", *options.split()]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, env=environment, **quiet)
    try:
        while not answers(port):
            assert process.poll() is None, "the server did not start"
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
