"""The benchmark of marks: its victims can be trained, and its rows are those of the trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mwm.watermarks.plan import plan_training
from tests.benchmarks import embedding
from tests.benchmarks.embedding import CASES, Case, line, main


@pytest.mark.parametrize("series", CASES)
def test_every_victim_can_be_trained_in_about_so_many_steps(series: str) -> None:
    for case in CASES[series]:
        scheme, recipe = case.made
        counts = case.split.counts(case.images)
        plan = plan_training(scheme, recipe, counts)
        assert counts.owner >= case.batch
        assert plan.queries <= counts.queries
        assert abs(plan.steps - case.steps) <= plan.steps_per_epoch / 2


def test_rows_tell_of_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 200), ("test", 40)):
        arrays[f"x_{part}"] = chance.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(tmp_path / "small.npz", **arrays)
    digits = Case(scheme="margin", steps=20, keys=5, width=2)
    folder = replace(digits, scheme="confusion", pictures=200, queries=60, validation=20, size=8, batch=32, steps=6)
    monkeypatch.setattr(embedding, "CASES", {"wide": [digits, folder]})
    output = tmp_path / "figures.json"
    main(["--archive", str(tmp_path / "small.npz"), "--output", str(output), "--lines", str(tmp_path / "lines")])
    rows = json.loads(output.read_text())["victims"]
    assert [json.loads(text) for text in (tmp_path / "lines").read_text().splitlines()] == rows
    first, second = rows
    assert (first["steps"], first["visits"], second["steps"], second["pull"]) == (20, 100.0, 6, None)
    assert all(row["marked"] == (row["log10_p"] <= -3) for row in rows)
    shown = capsys.readouterr().out
    assert all(line(row)[0] in shown for row in rows)
    main(["--output", str(output)])
    assert len(json.loads(output.read_text())["victims"]) == 1, "without an archive there are no folders"
