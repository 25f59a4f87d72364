"""How far a follower has brought a journal to MLflow: a file in the folder of a sweep, with a part for each store."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mwm.runner.tracking.runs import RunState
from mwm.storage.filesystem import write_atomic

FOLLOWED = "mlflow.json"


@dataclass
class Position:
    """What has been brought to one store.

    `start` is where in the journal the last event begins that was read (bytes), `at` when it happened, by which another
    journal is told apart; `next` is where that event ends. `sweep` is the run of the sweep, `runs` are those of its
    trials by their digests. `settled` says that all of it arrived: only then it is of use to whoever goes on.
    """

    start: int = 0
    at: float = 0.0
    next: int = 0
    sweep: RunState = field(default_factory=RunState)
    runs: dict[str, RunState] = field(default_factory=dict)
    settled: bool = False


def load_position(folder: Path, store: str) -> Position | None:
    """What was left for a store; None if there is nothing that one can rely on."""
    try:
        tree = _parts(folder)[store]
        if not tree["settled"]:
            return None
        runs = {name: RunState(**run) for name, run in tree["runs"].items()}
        return Position(tree["start"], tree["at"], tree["next"], RunState(**tree["sweep"]), runs, settled=True)
    except (KeyError, TypeError, AttributeError):
        return None


def save_position(
    folder: Path, store: str, position: Position, *, told: Mapping[str, Any], instead: Collection[str] = ()
) -> None:
    """Write down what has been brought to a store, `instead` of others, and what else is `told` of it; OSError."""
    tree = asdict(position) | {"sweep": _short(position.sweep)}
    tree["runs"] = {name: _short(run) for name, run in position.runs.items() if run.id}
    others = {name: part for name, part in _parts(folder).items() if name not in instead}
    parts = others | {store: {**told, **tree}}
    write_atomic(folder / FOLLOWED, json.dumps(parts, separators=(",", ":")) + "\n")


def _short(run: RunState) -> dict[str, Any]:
    return {name: value for name, value in asdict(run).items() if value}


def _parts(folder: Path) -> dict[str, Any]:
    try:
        parts = json.loads((folder / FOLLOWED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return parts if isinstance(parts, dict) else {}
