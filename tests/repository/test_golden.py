"""Digests: a trial that was stored is found again, so what names it must not change unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.repository.golden import GOLDEN, ROOT, digests

SHIPPED = sorted((ROOT / "tune_configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_digests_of_shipped_trials_are_as_before(path: Path) -> None:
    assert digests(path) == json.loads(GOLDEN.read_text())["digests"][path.name]
