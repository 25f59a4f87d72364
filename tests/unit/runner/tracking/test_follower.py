"""Tracking against a real MLflow: runs nest, nothing is written twice, nothing stays running, nothing is raised."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.data import get_source

from mwm.runner.tracking.client import MAX_PARAM_CHARS, MAX_TAG_CHARS
from mwm.trials.outcome import Outcome
from tests.helpers.launching import ROOT
from tests.helpers.refusing import Refusal, at, gate
from tests.helpers.tracked import (
    ATTACK,
    ATTACK_DONE,
    DONE,
    MARKED,
    NUMBERS,
    RANKS,
    Tracker,
    begin,
    history,
    row,
    runs,
    sent,
    track,
)


def test_runs_nest_and_carry_names_tags_params_and_data(uri: str) -> None:
    tracker = track(uri)
    begin(tracker)
    sent(tracker)
    found = runs(uri)
    sweep, victim, attack = found["sweep"], found["v0"], found["a0"]
    assert [run.info.status for run in (sweep, victim, attack)] == ["RUNNING"] * 3
    assert victim.data.tags["mlflow.parentRunId"] == sweep.info.run_id
    assert attack.data.tags["mlflow.parentRunId"] == victim.info.run_id == tracker.run_id("v0")
    shown = [run.info.run_name for run in (sweep, victim, attack)]
    assert shown == ["trial", "margin n=20 4/255 seed 0", "extraction hard seed 0 on margin n=20 4/255 seed 0"]
    assert tracker.run_id("unknown") == ""
    expected = {"kind": "attack", "mwm.digest": "a0", "mwm.victim_digest": "v0", "mwm.data_digest": "d0"}
    expected |= {"scheme": "margin", "attack": "extraction", "seed": "0", "git.revision": "abc"}
    assert {key: attack.data.tags.get(key) for key in expected} == expected
    assert sweep.data.params == {"search": "grid", "long": "x" * MAX_PARAM_CHARS}
    assert victim.data.params["victim.scheme.step_size"] == str(4 / 255)
    assert victim.data.params["victim.recipe.momentum"] == "0.0"
    assert not [key for key in victim.data.params if key.startswith("attack")]
    assert victim.data.params.items() < attack.data.params.items()
    assert attack.data.params["attack.labels"] == "hard"
    for run in (victim, attack):
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
    tracker.finish("a0", replace(ATTACK_DONE, status="skipped", error="its victim failed"))
    tracker.log_late_metrics("v0", {"worst": 0.125})
    tracker.artifact(picture)
    tracker.close("FINISHED")
    client, found = MlflowClient(uri), runs(uri)
    victim = found["v0"]
    assert history(uri, victim, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert (NUMBERS | {"epoch": 3, "worst": 0.125}).items() <= victim.data.metrics.items()
    assert "agreement" not in victim.data.metrics
    assert not RANKS.keys() & {*victim.data.metrics, *victim.data.tags, *victim.data.params}
    assert found["a0"].data.metrics["oracle_calls"] == 64
    assert [found[name].info.status for name in ("sweep", "v0", "a0")] == ["FINISHED", "FINISHED", "KILLED"]
    assert (victim.data.tags["status"], victim.data.tags["device"]) == ("done", "cpu")
    assert [found[name].data.tags.get("error") for name in ("v0", "a0")] == [None, "its victim failed"]
    files = [client.list_artifacts(found[name].info.run_id) for name in ("v0", "sweep")]
    assert [[file.path for file in listed] for listed in files] == [["v0.png"], ["queries.png"]]
    assert victim.info.artifact_uri.startswith(tmp_path.as_uri()), "files belong beside the database"


KILLED = """
import os, sys
from tests.helpers.tracked import begin, row, sent, track
tracker = track(sys.argv[1])
begin(tracker)
tracker.log("v0", row(1))
sent(tracker)
for epoch in range(2, 4):
    tracker.log("v0", row(epoch))
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_after_a_kill_runs_go_on_without_twins(uri: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, uri], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    before = {name: run.info.run_id for name, run in runs(uri).items()}
    assert before.keys() == {"sweep", "v0", "a0"}
    assert history(uri, runs(uri)["v0"], "loss") == [(1, 1.0)]
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
        begin(tracker, attack=False)
        for epoch in range(max(1, last - replayed), last + new + 1):
            tracker.log("v0", row(epoch))
        tracker.close("KILLED")
        last += new
    found = runs(uri, sweep)
    assert history(uri, found["v0"], "epoch") == [(epoch, epoch) for epoch in range(1, last + 1)]


@pytest.mark.parametrize("outcome", [DONE, replace(DONE, status="failed", error="boom")], ids=lambda one: one.status)
def test_the_same_outcome_again_writes_nothing(uri: str, outcome: Outcome) -> None:
    seen: list[tuple[str, int, list[tuple[int, float]]]] = []
    for _ in range(3):
        with track(uri) as tracker:
            if not seen:  # a trial that begins again ends again
                begin(tracker, attack=False)
            tracker.trials["v0"] = MARKED
            tracker.log("v0", row(1))
            tracker.finish("v0", outcome)
            tracker.log_late_metrics("v0", {"mean_query_acc": 0.5, "clean_acc": 0.25})
            sent(tracker)
            run = runs(uri)["v0"]
            seen.append((run.info.status, run.info.end_time, history(uri, run, "clean_acc")))
            assert history(uri, run, "mean_query_acc") == [(1, 0.5)]
    assert seen == [seen[0]] * 3
    assert seen[0][0::2] == ("FINISHED" if outcome is DONE else "FAILED", [(1, 0.75)])


def test_a_victim_of_which_no_journal_tells_is_made_from_its_attack(uri: str) -> None:
    with track(uri) as tracker:
        tracker.start(ATTACK, digest="a0", victim_digest="v0", data_digest="d0")
        tracker.finish("a0", ATTACK_DONE)
    found = runs(uri)
    assert found["a0"].data.tags["mlflow.parentRunId"] == found["v0"].info.run_id
    assert (found["v0"].data.tags["kind"], found["v0"].info.status) == ("victim", "KILLED")
    assert found["v0"].data.params["victim.scheme.step_size"] == str(4 / 255)


def test_a_failed_trial_that_is_mended_loses_its_error(uri: str) -> None:
    for outcome, status in ((replace(DONE, status="failed", error="boom" * 5000), "FAILED"), (DONE, "FINISHED")):
        tracker = track(uri)
        begin(tracker, attack=False)
        sent(tracker)
        assert runs(uri)["v0"].info.status == "RUNNING"
        tracker.finish("v0", outcome)
        tracker.close("FINISHED")
        run = runs(uri)["v0"]
        assert run.info.status == status
        assert run.data.tags["error"] == outcome.error[:MAX_TAG_CHARS]


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
    sent(tracker)
    MlflowClient(uri).delete_run(tracker.run_id("v0"))
    tracker.log("v0", row(1))
    tracker.finish("v0", DONE)
    tracker.finish("a0", ATTACK_DONE)
    assert tracker.close("FINISHED") == 0
    assert runs(uri)["a0"].info.status == "FINISHED"
    (said,) = capsys.readouterr().err.splitlines()
    assert "was deleted there: nothing more is written to it" in said


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


def test_a_server_that_refuses_is_told_with_its_reason() -> None:
    page = b"<html><style>p {}</style><body><p>Message: Unsupported method</p></body></html>"
    refused = pytest.raises(ValueError, match=r"501 != 200.*Message: Unsupported method")
    with gate("http://127.0.0.1:9") as server, refused as caught:
        server.rules.append(at("/", Refusal(501, page)))
        track(server.uri)
    assert len(str(caught.value).splitlines()) == 1
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("name", ["a$b", "", "a/../b", "/a", "x" * 251])
def test_a_tag_that_mlflow_refuses_is_named(uri: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"^tags: .* is not allowed \(--tag, tags\): Names may") as caught:
        Tracker(uri, "trial", tags={name: "x"})
    assert repr(name) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_context_is_closed_in_any_case(uri: str) -> None:
    for number, (error, status) in enumerate(((None, "FINISHED"), (KeyError("x"), "FAILED"), (SystemExit(), "KILLED"))):
        with suppress(KeyError, SystemExit), track(uri, f"sweep {number}") as tracker:
            begin(tracker)
            if error:
                raise error
        found = runs(uri, f"sweep {number}")
        assert found["sweep"].info.status == status
        assert found["v0"].info.status == "KILLED"
