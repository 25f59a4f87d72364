"""What a report is made of: the files of a sweep, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mwm.config.spec import flatten
from mwm.runner.reporting.csv_files import read_results
from mwm.runner.reporting.groups.configurations import KEY_SIZE, Row

JOURNAL = "journal.jsonl"
OPTIONAL = ("sweep.json", "summary.json", "search.json")


@dataclass(frozen=True, kw_only=True)
class SweepData:
    """A sweep as its files tell it.

    `question` is the sweep's description. `rows` are those of results.csv, with the fields of each trial as they were
    before they became text. `sweep`, `summary` and `search` are sweep.json, summary.json and search.json, empty where
    there is none. `provenance` tells revision and versions. `pictures` are those of query sets, by the victim's digest.
    """

    name: str
    question: str
    rows: Sequence[Row]
    sweep: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    folder: Path


def read_sweep_data(folder: Path, *, provenance: Mapping[str, str] | None = None) -> SweepData:
    """The sweep whose files lie in a folder; its provenance stands in the journal, where that is not given.

    Raises ValueError, in one line, where nothing has ended, and for a file that cannot be read.
    """
    rows = [_typed(row) for row in read_results(folder)]
    sweep, summary, search = (_read_json(folder / name) for name in OPTIONAL)
    return SweepData(
        name=str(sweep.get("name", folder.name)),
        question=str(sweep.get("description", "")),
        rows=rows,
        sweep=sweep,
        summary=summary,
        search=search,
        provenance=_provenance(folder / JOURNAL) if provenance is None else provenance,
        pictures={path.stem: path for path in sorted((folder / "queries").glob("*.png"))},
        folder=folder,
    )


def _typed(row: Row) -> Row:
    """A row in which a trial has the fields that it has, of the types that they have, in the order of the columns."""
    fields = flatten(json.loads(row["trial"]))
    if row["cells"] == "images" and row.get(f"victim.{KEY_SIZE}") is not None:
        fields[f"victim.{KEY_SIZE}"] = row[f"victim.{KEY_SIZE}"]  # a control is scored on several keys
    return {
        name: fields.get(name, value)
        for name, value in row.items()
        if name in fields or not name.startswith(("victim.", "attack."))
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    return found if isinstance(found, dict) else {}


def _provenance(journal: Path) -> dict[str, str]:
    """What the last driver said of its code and libraries; empty where no journal says it."""
    found: dict[str, str] = {}
    try:
        with journal.open("rb") as lines:
            for line in lines:
                if b'"event":"begin"' in line[:80]:
                    found = dict(json.loads(line).get("provenance", {}))
    except (OSError, ValueError):
        return found
    return found
