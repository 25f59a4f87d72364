"""Fixtures of more than one room."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import launch
from tests.helpers.asking import Ask, Say
from tests.helpers.records import Loaded, loaded

if TYPE_CHECKING:
    from tests.helpers.court import Court
    from tests.helpers.unharmed import Undisturbed


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The victim's data and a foreign set of another size, channel count and number of classes."""
    return loaded(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Court:
    """A key with the network that holds it, and innocents."""
    from tests.helpers.court import court

    return court(tmp_path_factory.mktemp("court"))


@pytest.fixture
def ask(say: Say, hall: Court) -> Ask:
    """`verify` with the key of `hall`: its exit status, and the verdict as it prints it for programs."""

    def run(*words: str | Path) -> tuple[int, dict[str, Any]]:
        status, out, err = say("verify", "--key", str(hall.key), "--json", *map(str, words))
        assert err == ""
        return status, json.loads(out)

    return run


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: to make one takes seconds, to copy it does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(migrated: Path, tmp_path: Path) -> str:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Undisturbed:
    """What the sweep that is hit by faults leaves when it is not."""
    from tests.helpers.unharmed import undisturbed

    return undisturbed(tmp_path_factory.mktemp("undisturbed"), migrated)


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """The command in this process: its exit status, and what it says on stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.chdir(tmp_path)
        status = launch.main(words)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
