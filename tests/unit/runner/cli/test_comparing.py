"""The last line of a sweep: what it says can be pasted into any shell, in any folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mwm.runner.cli.comparing import how_to_compare
from mwm.storage.tracking_uri import resolve_tracking_uri
from tests.helpers.servers import free_port, wait_until

SECRET = "postgresql+psycopg2://ann:hush@db.lab/runs"
MLFLOW = str(Path(sys.executable).with_name("mlflow"))


def told(uri: str) -> str:
    return how_to_compare(uri, experiment="small", experiment_id="7")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/experiments/7"),
        ("https://ann:hush@host/base/", "https://host/base/#/experiments/7"),
        ("databricks", "the experiment small in Databricks"),
        ("databricks://mine", "the experiment small in Databricks"),
        ("sqlite:////a b/it's.db", f"{MLFLOW} ui --backend-store-uri 'sqlite:////a b/it'\"'\"'s.db'"),
        ("postgresql+psycopg2://host/runs", f"{MLFLOW} ui --backend-store-uri postgresql+psycopg2://host/runs"),
    ],
)
def test_a_server_has_a_page_and_a_database_a_command(uri: str, expected: str) -> None:
    assert told(uri) == expected


def test_a_password_is_to_be_filled_in() -> None:
    shown = "MLFLOW_BACKEND_STORE_URI='postgresql+psycopg2://ann:***@db.lab/runs'"
    assert told(SECRET) == f"{shown} {MLFLOW} ui    (with the password in place of ***)"


@pytest.mark.parametrize("given", [SECRET, SECRET.replace("+psycopg2", "")])
def test_a_password_of_the_environment_comes_from_there(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    line = told(resolve_tracking_uri(None))
    assert "hush" not in line
    command = line.replace(f"{MLFLOW} ui", "printenv MLFLOW_BACKEND_STORE_URI")
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout == f"{SECRET}\n"


@pytest.mark.slow
def test_the_command_shows_runs_and_files_from_a_folder_with_an_old_store(mlflow_db: Path, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "it's 50%20 [home]", tmp_path / "elsewhere"
    (elsewhere / "mlruns" / "0").mkdir(parents=True)
    (elsewhere / "mlruns" / "0" / "meta.yaml").write_text("name: Default\nexperiment_id: '0'\n")
    home.mkdir()
    shutil.copy(mlflow_db, home / "mlflow.db")
    uri = resolve_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    client = MlflowClient(uri)
    experiment = client.create_experiment("small", artifact_location=(home / "mlruns" / "small").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "a note", "note.txt")
    port = free_port()
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = f"exec {told(uri)} --port {port} --workers 1"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", command], cwd=elsewhere, env=quiet, stdout=log, stderr=log, start_new_session=True
        )

    def answered() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answered, process)
        page = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=small"
        with urllib.request.urlopen(page, timeout=30) as answer:
            assert json.load(answer)["experiment"]["experiment_id"] == experiment
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/get-artifact?run_id={run}&path=note.txt") as answer:
            assert answer.read() == b"a note"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
