"""The last line of a sweep: what it says can be pasted into any shell, in any folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mwm.runner.cli.comparing import how_to_compare
from mwm.storage.tracking_uri import resolve_tracking_uri

SECRET = "postgresql+psycopg2://ann:hush@db.lab/runs"
VIEW = "/#/experiments/7/runs?viewStateShareKey=small-attacks"


@pytest.fixture(autouse=True)
def launch(monkeypatch: pytest.MonkeyPatch) -> str:
    """How the program was started, from another folder: the words of its command."""
    monkeypatch.setattr(sys, "argv", ["a b/launch.py", "run", "sweep.yaml"])
    return f"{sys.executable} '{Path.cwd()}/a b/launch.py' ui small"


def told(uri: str) -> str:
    return how_to_compare(uri, name="small", experiment="small", page=VIEW)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://127.0.0.1:5000", f"http://127.0.0.1:5000{VIEW}"),
        ("https://ann:hush@host/base/", f"https://host/base{VIEW}"),
        ("databricks", "the experiment small in Databricks"),
        ("databricks://mine", "the experiment small in Databricks"),
    ],
)
def test_a_server_has_a_page(uri: str, expected: str) -> None:
    assert told(uri) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////a b/it's.db", "'sqlite:////a b/it'\"'\"'s.db'"),
        ("postgresql+psycopg2://host/runs", "postgresql+psycopg2://host/runs"),
    ],
)
def test_a_database_has_a_command(uri: str, expected: str, launch: str) -> None:
    assert told(uri) == f"{launch} --tracking-uri {expected}"


def test_a_password_is_to_be_filled_in(launch: str) -> None:
    shown = "MLFLOW_TRACKING_URI='postgresql+psycopg2://ann:***@db.lab/runs'"
    assert told(SECRET) == f"{shown} {launch}    (with the password in place of ***)"


@pytest.mark.parametrize("given", [SECRET, SECRET.replace("+psycopg2", "")])
def test_a_password_of_the_environment_comes_from_there(
    given: str, monkeypatch: pytest.MonkeyPatch, launch: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert told(resolve_tracking_uri(None)) == launch


def test_a_shell_takes_the_words_as_they_were_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "it's 50%20 [home]" / "launch.py"
    script.parent.mkdir()
    script.write_text("import sys; print(sys.argv[1:])")
    monkeypatch.setattr(sys, "argv", [str(script)])
    uri = resolve_tracking_uri(f"sqlite:///{script.parent / 'mlflow.db'}")
    done = subprocess.run(["sh", "-c", told(uri)], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == f"{['ui', 'small', '--tracking-uri', uri]}\n"
