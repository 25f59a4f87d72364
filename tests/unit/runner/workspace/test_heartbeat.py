"""The heartbeat of a driver: seen while it lives, gone when it ends, and never in its way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mwm.runner.workspace.heartbeat import HEARTBEAT, Heartbeat, read_heartbeat


def test_a_heartbeat_is_seen_while_it_beats(tmp_path: Path) -> None:
    assert read_heartbeat(tmp_path) == {}
    beating = Heartbeat(tmp_path, lambda: {"left": 3.5})
    try:
        end = time.monotonic() + 10
        while not read_heartbeat(tmp_path) and time.monotonic() < end:
            time.sleep(0.01)
        said = read_heartbeat(tmp_path)
        assert (said["pid"], said["left"]) == (os.getpid(), 3.5)
        assert abs(said["at"] - time.time()) < 10
    finally:
        beating.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"at": "now"}', '{"at": 1'])
def test_a_damaged_heartbeat_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / HEARTBEAT).write_text(content)
    assert read_heartbeat(tmp_path) == {}


def test_a_heartbeat_outlives_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    beating = Heartbeat(folder, dict)
    beating.close()
    assert not folder.exists()
