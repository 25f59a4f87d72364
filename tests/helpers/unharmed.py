"""What a sweep leaves when nothing happens to it, and the comparison with what it leaves after a fault."""

from __future__ import annotations

import csv
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from mwm.runner.workspace.users import USERS
from mwm.storage.tracking_uri import set_mlflow_defaults
from tests.helpers.launching import launched, sweep

NAME = "faults"
EPOCHS = 12
MOVING = ("seconds", "peak_mib", "mlflow_run_id", "sweep")
"""Columns that differ between two runs of one sweep."""

CURVES = ("loss", "lr", "val_acc")
KEPT = {"outcome.json", "model.safetensors"}
KEPT_OF_VICTIMS = KEPT | {"key.json", "queries.safetensors", "perturbed.safetensors"}
BESIDE = {".lock", "figures", "journal.jsonl", "mlflow.json", "queries", "sweep.json", "tables"} | {
    "front.csv",
    "front.png",
    "heatmap.png",
    "report.html",
    "results.csv",
    "retention.csv",
    "retention.png",
    "summary.json",
}

Finished = dict[Path, tuple[int, int]]
"""Files of finished entries with inode and time of writing: whoever writes one again changes both."""


def hittable(tree: dict[str, Any]) -> None:
    """Two victims and two attacks on each, long enough to be hit in mid-epoch."""
    tree["name"] = NAME
    tree["victim"]["model"]["width"] = 16
    tree["victim"]["recipe"] |= {"epochs": EPOCHS, "batch_size": 64}


@dataclass(frozen=True)
class Undisturbed:
    """What a sweep leaves when nothing happens to it."""

    rows: list[dict[str, str]]
    curves: dict[str, list[tuple[str, int, float]]]
    hashes: dict[str, dict[str, str]]
    folder: Path
    database: Path

    @property
    def victims(self) -> set[str]:
        return {row["digest"] for row in self.rows if row["kind"] == "victim"}


def empty_database(path: Path) -> Path:
    """Make an empty database of MLflow, which takes seconds; to copy it does not."""
    set_mlflow_defaults()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def undisturbed(folder: Path, database: Path, change: Callable[[dict[str, Any]], None] = hittable) -> Undisturbed:
    """Run a sweep to its end in `folder`, from an empty database of MLflow."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(database, folder / "mlflow.db")
    done = launched(folder, "run", sweep(folder, change))
    assert done.returncode == 0, done.stderr + done.stdout
    whole = Undisturbed(rows(folder), curves(folder), hashes(folder), folder, database)
    assert_unharmed(folder, whole)
    return whole


def prepared(folder: Path, whole: Undisturbed, change: Callable[[dict[str, Any]], None] = hittable) -> Path:
    """A folder in which the sweep can be started."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(whole.database, folder / "mlflow.db")
    sweep(folder, change)
    return folder


def rows(folder: Path, name: str = NAME) -> list[dict[str, str]]:
    """The results of a sweep without what two runs of it do not share."""
    with (folder / "results" / name / "results.csv").open() as file:
        kept = [{key: value for key, value in row.items() if key not in MOVING} for row in csv.DictReader(file)]
    return sorted(kept, key=lambda row: row["digest"])


def runs(folder: Path, name: str = NAME) -> list[Any]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id], max_results=1000))


def curves(folder: Path, name: str = NAME) -> dict[str, list[tuple[str, int, float]]]:
    """What MLflow holds of every epoch of every trial, under the trial's digest."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return {
        run.data.tags["mwm.digest"]: sorted(
            (key, point.step, point.value)
            for key in CURVES
            for point in client.get_metric_history(run.info.run_id, key)
        )
        for run in runs(folder, name)
        if run.data.tags["kind"] != "sweep"
    }


def entry(folder: Path, digest: str) -> Path:
    return folder / "store" / digest[:2] / digest


def hashes(folder: Path) -> dict[str, dict[str, str]]:
    """The digests of the networks and queries of every finished entry of the store, as they lie there."""
    found = [path.parent for path in folder.glob("store/*/*/outcome.json")]
    return {
        one.name: {path.name: sha256(path.read_bytes()).hexdigest() for path in one.glob("*.safetensors")}
        for one in found
    }


def finished(folder: Path) -> Finished:
    """The files of every finished entry of the store."""
    ended = [path.parent for path in folder.glob("store/*/*/outcome.json")]
    files = [path for one in ended for path in one.iterdir() if path.name in KEPT_OF_VICTIMS]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def assert_unharmed(folder: Path, whole: Undisturbed, before: Mapping[Path, tuple[int, int]] | None = None) -> None:
    """A sweep that met a fault has left what an undisturbed one does, bit for bit, and wrote nothing finished again.

    `before`: the finished files at the time of the fault.
    """
    assert rows(folder) == whole.rows, "other results"
    assert hashes(folder) == whole.hashes, "other networks"
    _assert_recorded(folder, whole)
    now = finished(folder)
    again = [str(path) for path, stamp in (before or {}).items() if now.get(path) != stamp]
    assert not again, f"what was finished was written again: {again}"
    _assert_tidy(folder, whole)


def _assert_recorded(folder: Path, whole: Undisturbed) -> None:
    found = runs(folder)
    digests = Counter(run.data.tags.get("mwm.digest", "sweep") for run in found)
    assert set(digests.values()) == {1}, f"twin runs: {digests}"
    assert len(found) == len(whole.rows) + 1, "a run too few or too many"
    statuses = Counter(run.info.status for run in found)
    assert statuses == {"FINISHED": len(found)}, f"runs ended as {dict(statuses)}"
    recorded = curves(folder)
    for digest, expected in whole.curves.items():
        steps = Counter(step for key, step, _ in recorded[digest] if key == "loss")
        assert steps == dict.fromkeys(range(1, EPOCHS + 1), 1), f"epochs of {digest}: {sorted(steps.items())}"
        assert recorded[digest] == expected, f"other curves of {digest}"


def _assert_tidy(folder: Path, whole: Undisturbed) -> None:
    names = {row["digest"]: KEPT_OF_VICTIMS if row["digest"] in whole.victims else KEPT for row in whole.rows}
    expected = {entry(folder, digest) / name for digest, kept in names.items() for name in kept}
    own = {folder / "store" / ".lock", *(folder / "store" / USERS).iterdir()}
    left = {path for path in (folder / "store").rglob("*") if not path.is_dir()} - own
    assert left == expected, f"left in the store: {[str(path) for path in left ^ expected]}"
    beside = {path.name for path in (folder / "results" / NAME).iterdir()}
    assert beside <= BESIDE, f"left beside the results: {beside - BESIDE}"
    pictures = {path.name for path in (folder / "results" / NAME / "queries").iterdir()}
    assert pictures == {f"{digest}.png" for digest in whole.victims}
