"""Rows as CSV, written and read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mwm.storage.filesystem import write_atomic
from mwm.trials.outcome import Outcome

WORDS = {field.name for field in fields(Outcome) if field.type == "str"} | {"mlflow_run_id", "trial"}
"""Columns whose content may look like a number, and is none."""

PATHS = ("path", "root", "secret", "function", "digest")
"""Fields of records that hold words, wherever they stand, even such as look like numbers."""


def write_csv(rows: Sequence[Mapping[str, Any]], first: Sequence[str], path: Path) -> None:
    """Write rows as CSV: the columns named first, then those that occur."""
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys([*first, *columns(rows)]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def columns(table: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns that occur in rows, each once: what a row brings anew stands behind what it follows there."""
    found: list[str] = []
    for row in table:
        place = 0
        for name in row:
            if name in found:
                place = found.index(name) + 1
            else:
                found.insert(place, name)
                place += 1
    return found


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of results.csv of a sweep's folder: numbers, truths and words under their columns, None where empty.

    Raises ValueError, in one line, where there are none.
    """
    path = Path(folder) / "results.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name the folder of a sweep") from None


def _value(name: str, text: str) -> Any:
    if text and (name in WORDS or name.rpartition(".")[2] in PATHS):
        return text
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
