"""Sweeps over what a function returns, and over arrays in memory: a real Ray whose workers are handed the images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import ROOT, environment, launched, sweep
from tests.system.test_launch import results

pytestmark = pytest.mark.slow

MODULE = """
import os

import numpy as np

def load(side, file):
    with open(file, "a") as told:
        told.write(f"{os.getpid()} ")
    drawn = np.random.default_rng(0)
    patterns, labels = drawn.random((4, side, side, 1)), {"train": np.arange(260) % 4, "test": np.arange(40) % 4}
    noisy = {part: 0.7 * patterns[y] + 0.3 * drawn.random((len(y), side, side, 1)) for part, y in labels.items()}
    images = {f"x_{part}": (x * 255).astype(np.uint8) for part, x in noisy.items()}
    return images | {f"y_{part}": y for part, y in labels.items()} | {"classes": ["ant", "bee", "cat", "dog"]}
"""


def test_a_sweep_over_a_function(tmp_path: Path) -> None:
    (tmp_path / "own_source.py").write_text(MODULE)
    data = {"kind": "python", "function": "own_source:load", "arguments": {"side": 8, "file": "ran.txt"}, "pad": 1}

    def change(tree: dict[str, Any]) -> None:
        tree["victim"]["data"] = data
        tree["attacks"][0]["labels"] = "soft"

    path = sweep(tmp_path, change)
    refused = launched(tmp_path, "run", path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("victim.data.function: own_source:load: a module runs its code")
    assert not (tmp_path / "ran.txt").exists()
    done = launched(tmp_path, "run", path, "--trust")
    assert done.returncode == 0, done.stderr
    assert len({*(tmp_path / "ran.txt").read_text().split()}) == 1, "the workers are handed the images"
    rows = results(tmp_path)
    assert {(row["status"], row["victim.data.function"]) for row in rows} == {("done", "own_source:load")}
    (margin,) = [row["digest"] for row in rows if row["kind"] == "victim" and row["victim.scheme.kind"] == "margin"]
    again = launched(tmp_path, "run", path, "--trust")
    assert "all cached, nothing was run" in again.stdout, again.stderr
    assert launched(tmp_path, "export", margin, "key", "--force").returncode == 0
    assert json.loads((tmp_path / "key" / "key.json").read_bytes())["data"] == data | {"flip": True}
    digits = launched(tmp_path, "commit", "key", "--force").stdout.splitlines()[1]
    reopen = ["key", "--commitment", digits, "--recompute"]
    assert launched(tmp_path, "open", *reopen).returncode == 2
    opened = launched(tmp_path, "open", *reopen, "--trust")
    assert "all of it comes out of its data again" in opened.stdout, opened.stderr


NOTEBOOK = """
import json
import mwm
from mwm.config.spec import encode
from tests.helpers.records import arrays

data = mwm.Arrays(**arrays(260, (8, 8, 1), 4, 9), flip=False, pad=0)
done = mwm.run_sweep(mwm.load_sweep("sweep.yaml", [f"victim.data.digest={data.digest}"]))
(row,) = mwm.read_results(done.folder)
victim = json.loads((done.folder / "sweep.json").read_text())["victim"] | {"data": data}
own = mwm.train_victim(**victim, store="own")
print(json.dumps([done.status, row["data_digest"], row["victim.data.digest"], row["digest"]]))
print(json.dumps([0, data.digest, data.digest, own.outcome.digest]))
"""


def test_a_sweep_over_arrays_of_the_same_process(tmp_path: Path) -> None:
    """A notebook and a sweep share what they train."""

    def change(tree: dict[str, Any]) -> None:
        tree["victim"] |= {"data": {"kind": "arrays", "digest": "0" * 16, "flip": False, "pad": 0}}
        tree["victim"] |= {"scheme": {"kind": "trigger_set", "num_queries": 10}}
        tree["attacks"] = []

    path = sweep(tmp_path, change)
    elsewhere = launched(tmp_path, "check", path)
    assert elsewhere.returncode == 2
    gone = "victim.data: arrays 0000000000000000 are not in the memory of this process; allowed: mwm.Arrays"
    assert elsewhere.stderr.startswith(gone)
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    swept, own = done.stdout.splitlines()[-2:]
    assert swept == own
