"""MLflow servers that lack something: all else arrives, what lacks is told once, and is brought when they have it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mwm.runner.tracking import sender
from tests.helpers.refusing import Asked, Gate, Refusal, Rule, at, gate
from tests.helpers.servers import MlflowServer, mlflow_server
from tests.helpers.tracked import ATTACK_DONE, DONE, begin, epochs, row, runs, track

pytestmark = pytest.mark.slow

UNKNOWN = Refusal(404, b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "no such endpoint"}')


@pytest.fixture
def through(started: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The server behind a proxy that can refuse; nobody waits long."""
    for name in ("PAUSE_SECONDS", "HURRIED_PAUSE_SECONDS"):
        monkeypatch.setattr(sender, name, 0.01)
    with gate(started.uri) as opened:
        yield opened


def record(through: Gate, sweep: str, folder: Path) -> int:
    """Record a victim and an attack, which ended before; how many writes did not arrive."""
    picture = folder / "queries.png"
    picture.write_bytes(b"png")
    with track(through.uri, sweep) as tracker:
        begin(tracker)
        for name, outcome in (("v0", DONE), ("a0", ATTACK_DONE)):
            for epoch in (1, 2):
                tracker.log(name, row(epoch))
            tracker.finish(name, outcome, artifacts=[picture] if name == "v0" else [])
        return tracker.close("FINISHED")


def lacking(uri: str, sweep: str) -> set[str]:
    """What the runs of a sweep lack."""
    found = runs(uri, sweep)
    lack = {"runs"} - {"runs" if found.keys() == {"sweep", "v0", "a0"} else ""}
    for name in {"v0", "a0"} & found.keys():
        run = found[name]
        has = {
            "parameters": len(run.data.params) > 30,
            "data sets": bool(run.inputs and run.inputs.dataset_inputs),
            "metrics": "clean_acc" in run.data.metrics and "loss" in run.data.metrics,
            "tags": "mwm.outcome" in run.data.tags or "clean_acc" not in run.data.metrics,
            "files": name != "v0" or len(MlflowClient(uri).list_artifacts(run.info.run_id)) == 1,
        }
        lack |= {kind for kind, there in has.items() if not there}
    return lack


def with_text(key: bytes) -> Rule:
    """Refuse to take what a batch says under a key, as a server does that knows only the other keys."""

    def rule(asked: Asked) -> Refusal | None:
        return Refusal(501, b"Not Implemented") if "log-batch" in asked.path and key in asked.body else None

    return rule


MISSING = {
    "data sets": at("runs/log-inputs", UNKNOWN),
    "files": at("mlflow-artifacts", Refusal(403, b"<html><body>Forbidden</body></html>")),
    "parameters": with_text(b'"params": [{'),
    "metrics": with_text(b'"metrics": [{'),
    "tags": with_text(b'"tags": [{'),
}


@pytest.mark.parametrize("kind", MISSING)
def test_what_is_refused_of_one_kind_is_told_once_and_brought_later(
    kind: str, started: MlflowServer, through: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = f"without {kind}"
    through.rules.append(MISSING[kind])
    left = record(through, sweep, tmp_path)
    assert left > 0
    assert lacking(started.uri, sweep) == {kind}
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"warning: MLflow: writing {kind} failed: ")
    assert told[1:] == [f"warning: MLflow: not taken: {left} of {kind}; bring them later by launch.py sync {sweep}"]
    through.rules.clear()
    assert record(through, sweep, tmp_path) == 0
    assert lacking(started.uri, sweep) == set()
    assert epochs(started.uri, sweep) == [1, 2]
    assert capsys.readouterr().err == ""


def test_a_kind_that_is_known_to_be_refused_is_not_asked_for_again(
    started: MlflowServer, through: Gate, tmp_path: Path
) -> None:
    through.rules.append(at("runs/log-inputs", UNKNOWN))
    assert record(through, "known", tmp_path) == 2
    assert sum(through.refused.values()) == sender.MAX_ATTEMPTS
    assert lacking(started.uri, "known") == {"data sets"}


def test_a_victim_whose_run_was_refused_gets_its_attacks_later(
    started: MlflowServer, through: Gate, tmp_path: Path
) -> None:
    def victims(asked: Asked) -> Refusal | None:
        return Refusal(403, b"{}") if "runs/create" in asked.path and b'"value": "victim"' in asked.body else None

    through.rules.append(victims)
    assert record(through, "parents", tmp_path) > 0
    through.rules.clear()
    assert record(through, "parents", tmp_path) == 0
    found = runs(started.uri, "parents")
    assert found["a0"].data.tags["mlflow.parentRunId"] == found["v0"].info.run_id
    assert lacking(started.uri, "parents") == set()


def test_texts_that_are_too_long_for_an_old_server_are_cut_off(
    started: MlflowServer, through: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = Refusal(400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "exceeded length limit of 250"}')
    through.rules.append(lambda asked: refusal if b"x" * 251 in asked.body else None)
    with track(through.uri, "old") as tracker:
        assert tracker.close("FINISHED") == 0
    assert runs(started.uri, "old")["sweep"].data.params["long"] == "x" * 250
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_asks_who_is_there_is_told_with_what_to_set(through: Gate, status: int) -> None:
    through.rules.append(at("/", Refusal(status, b"<html><body>You are not authenticated</body></html>")))
    with pytest.raises(ValueError, match=r"^--tracking-uri: .* cannot be used \(.*MLFLOW_TRACKING_USERNAME") as caught:
        track(through.uri, "closed")
    assert len(str(caught.value).splitlines()) == 1


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(
    through: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Asked] = []
    with gate(through.uri) as proxy:
        proxy.rules.append(seen.append)
        for name, value in (("http_proxy", proxy.uri), ("no_proxy", ""), ("NO_PROXY", "")):
            monkeypatch.setenv(name, value)
        assert record(through, "direct", tmp_path) == 0
    assert not seen


def test_a_server_that_wants_other_names_says_so(through: Gate) -> None:
    reason = b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "An absolute path is required."}'
    through.rules.append(at("experiments/create", Refusal(400, reason)))
    with pytest.raises(ValueError, match=r"'plain' is refused there: .*absolute path.*; name another by --experiment"):
        track(through.uri, "plain")


@pytest.fixture(scope="module")
def local(mlflow_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server that lets its clients write files into a folder."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    with mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", folder, folder / "root") as running:
        yield running


def test_no_file_goes_into_a_folder_that_the_server_does_not_see(
    local: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert local.root is not None
    with gate(local.uri) as through:
        through.rules.append(at("artifacts/list", Refusal(200, b'{"files": []}')))  # as from another machine
        for _ in range(2):
            assert record(through, "elsewhere", tmp_path) == 1
            told = capsys.readouterr().err.splitlines()
            assert "writing files failed: " in told[0]
            assert "a folder that this machine does not share with the server; let it hand out files" in told[0]
            assert len(told) == 2
            assert lacking(local.uri, "elsewhere") == {"files"}
            assert not local.root.exists(), "something was left in a folder that nobody looks into"
        through.rules.clear()
        assert record(through, "elsewhere", tmp_path) == 0
    assert lacking(local.uri, "elsewhere") == set()


def test_a_folder_that_was_a_database_s_elsewhere_is_not_made_here(
    started: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    MlflowClient(started.backend).create_experiment("moved", artifact_location=folder.as_uri())
    assert record(Gate(started.backend), "moved", tmp_path) == 1
    assert f"{folder}, the folder of this experiment's files, is not on this machine" in capsys.readouterr().err
    assert not folder.exists()
    folder.mkdir()
    assert record(Gate(started.backend), "moved", tmp_path) == 0
    assert lacking(started.backend, "moved") == set()
