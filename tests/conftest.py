"""Fixtures of more than one package, and the order in which tests run."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadFileScheduling

import launch
from tests.helpers.asking import Ask, Say
from tests.helpers.browser import chromium
from tests.helpers.records import Loaded, loaded

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.helpers.verifying import VerificationCase


SHARING = {
    "test_sync.py": "test_beside.py",
    "test_nodes.py": "test_faults.py",
    "test_removal.py": "test_launch.py",
    "test_joining.py": "test_launch.py",
}
"""Files of tests/system that use what the fixtures of another file take long to make."""


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Side by side, the tests of a file stay in one process, and those of files that share a fixture."""

    def _split_scope(self, nodeid: str) -> str:
        place, _, name = super()._split_scope(nodeid).rpartition("/")
        return f"{place}/{SHARING.get(name, name)}"


# A shell starts its background jobs with this signal ignored, and so would be every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no process is alone with one in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.parent.name != "system", item.path not in slow))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The victim's data and a foreign set of another size, channel count and number of classes."""
    return loaded(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> VerificationCase:
    """A key with the network that holds it, and independent networks."""
    from tests.helpers.verifying import verification_case

    return verification_case(tmp_path_factory.mktemp("verification"))


@pytest.fixture
def ask(say: Say, case: VerificationCase) -> Ask:
    """`verify` with the key of `case`: its exit status, and the verdict as it prints it for programs."""

    def run(*words: str | Path) -> tuple[int, dict[str, Any]]:
        status, out, err = say("verify", "--key", str(case.key), "--json", *map(str, words))
        assert err == ""
        return status, json.loads(out)

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser in which tests open a `tab` each."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: to make one takes seconds, to copy it does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(mlflow_db: Path, tmp_path: Path) -> str:
    """The address of an empty MLflow database of a test's own."""
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


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
