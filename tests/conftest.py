"""Fixtures of more than one room."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import launch
from mwm.data import load
from mwm.trial import data_key
from tests.asking import Say
from tests.small import DATA, FOREIGN, Loaded, arrays

if TYPE_CHECKING:
    from tests.unharmed import Undisturbed


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The victim's data and a foreign set of another size, channel count and number of classes."""
    folder, held = tmp_path_factory.mktemp("data"), {}
    for data, content in ((DATA, arrays(140, (6, 6, 1), 4, 0)), (FOREIGN, arrays(40, (9, 7, 3), 6, 1))):
        np.savez(folder / data.path, **content)
        held[data_key(data)] = load(replace(data, path=str(folder / data.path)))
    return held


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
    from tests.unharmed import undisturbed

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
