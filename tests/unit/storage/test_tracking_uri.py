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
    avoid_proxies,
    check_database,
    experiment_name,
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


@pytest.mark.parametrize(
    ("asked", "uri", "expected"),
    [
        (None, "http://host", "small"),
        ("lab", "http://host", "lab"),
        ("/Users/ann/", "databricks", "/Users/ann/small"),
        ("/Shared/margins", "databricks://mine", "/Shared/margins"),
        ("team/", "sqlite:////a.db", "team/small"),
    ],
)
def test_an_experiment_is_named_like_its_sweep_or_otherwise(asked: str | None, uri: str, expected: str) -> None:
    assert experiment_name(asked, "small", uri) == expected


@pytest.mark.parametrize(
    ("asked", "uri", "why"),
    [
        (None, "databricks", "Databricks wants an absolute path, such as /Users/NAME/"),
        ("lab", "databricks://mine", "Databricks wants an absolute path"),
        ("Users/ann/", "databricks", "Databricks wants an absolute path"),
        ("", "http://host", "must be 1 to 500 printable letters"),
        (" ", "http://host", "must be 1 to 500 printable letters"),
        ("a\nb", "http://host", "must be 1 to 500 printable letters"),
        ("x" * 501, "http://host", "must be 1 to 500 printable letters"),
        ("verdicts", "http://host", "it is the experiment of verdicts"),
    ],
)
def test_a_name_that_mlflow_refuses_is_refused_early(asked: str | None, uri: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^--experiment: .* is not allowed: {why}") as caught:
        experiment_name(asked, "small", uri)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("http://127.0.0.1:5000", "127.0.0.1"),
        ("http://localhost:5000", "localhost"),
        ("http://[::1]:5000", "::1"),
        ("http://[::ffff:127.0.0.1]:5000", "::ffff:127.0.0.1"),
        ("http://0.0.0.0:5000", "0.0.0.0"),
        ("http://10.0.0.5:5000", None),
        ("http://no.such.host.invalid", None),
        ("sqlite:////a.db", None),
    ],
)
def test_a_server_on_this_machine_is_spoken_to_without_a_proxy(
    uri: str, kept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests.utils

    monkeypatch.setenv("http_proxy", "http://proxy.lab:3128")
    monkeypatch.setenv("NO_PROXY", "intern.lab")
    monkeypatch.setenv("no_proxy", "")
    avoid_proxies(uri)
    avoid_proxies(uri)
    assert os.environ["NO_PROXY"] == ",".join(filter(None, ("intern.lab", kept)))
    if uri.startswith("http"):
        assert requests.utils.should_bypass_proxies(uri, None) == bool(kept)
