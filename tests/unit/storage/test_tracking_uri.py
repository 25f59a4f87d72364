"""Addresses of MLflow stores: resolved for every process alike, opened once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mwm.storage.addresses import sqlite_file
from mwm.storage.tracking_uri import (
    MLFLOW_DEFAULTS,
    artifact_location,
    check_database,
    resolve_tracking_uri,
    set_mlflow_defaults,
    short_timeouts,
)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", *MLFLOW_DEFAULTS):
        monkeypatch.delenv(name, raising=False)


def test_the_default_is_what_mlflow_ui_shows_in_the_same_folder(tmp_path: Path) -> None:
    assert resolve_tracking_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"


def test_what_is_said_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert resolve_tracking_uri(None) == "http://127.0.0.1:5000"
    assert resolve_tracking_uri("sqlite:///runs/a.db?timeout=9") == f"sqlite:///{tmp_path}/runs/a.db?timeout=9"


@pytest.mark.parametrize(
    "uri", ["https://host/base", "postgresql+psycopg2://host/runs", "databricks", "sqlite:////a.db"]
)
def test_what_is_absolute_stays_as_it_is(uri: str) -> None:
    assert resolve_tracking_uri(uri) == uri


def test_postgresql_is_spoken_to_by_the_installed_driver() -> None:
    resolved = resolve_tracking_uri("postgresql://ann:postgresql://@host/runs")
    assert resolved == "postgresql+psycopg2://ann:postgresql://@host/runs"
    from sqlalchemy import create_engine

    assert create_engine(resolve_tracking_uri("postgresql://ann@host/runs")).driver == "psycopg2"


@pytest.mark.parametrize(
    "uri", ["mlflow.db", "file:///runs", "sqlite://", "sqlite:///", "sqlite:///:memory:", "htp://a"]
)
def test_what_is_no_store_is_refused_with_what_is_allowed(uri: str) -> None:
    with pytest.raises(
        ValueError, match=r"^--tracking-uri: .* is not allowed; write one of http://HOST:PORT"
    ) as caught:
        resolve_tracking_uri(uri)
    assert repr(uri) in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///a/b.db?timeout=9", Path("a/b.db")),
        ("sqlite:////a.db", Path("/a.db")),
        ("sqlite:///:memory:", None),
        ("sqlite:///?timeout=9", None),
        ("http://host/sqlite:///a.db", None),
        ("postgresql://host/a.db", None),
    ],
)
def test_only_a_database_on_disk_has_a_file(uri: str, file: Path | None) -> None:
    assert sqlite_file(uri) == file


def test_files_lie_beside_a_database() -> None:
    assert artifact_location("sqlite:////runs/a.db?timeout=9", "a b/c") == "file:///runs/mlruns/a-b-c"
    assert artifact_location("http://host", "a") is None


def test_a_database_that_cannot_be_opened_fails_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match="unable to open database file"):
        check_database(f"sqlite:///{tmp_path}")
    assert time.monotonic() - began < 5
    check_database("http://127.0.0.1:1")


def test_limits_hold_for_a_while_and_the_users_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    set_mlflow_defaults()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    with short_timeouts():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "5"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    for name in MLFLOW_DEFAULTS:
        monkeypatch.delenv(name)
