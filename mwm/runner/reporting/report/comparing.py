"""The rows of several sweeps as those of one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mwm.config.spec import digest
from mwm.runner.reporting.csv_files import columns
from mwm.runner.reporting.groups.configurations import KEY_SIZE, Row, group_by_configuration
from mwm.runner.reporting.report.source import SweepData


def compared_rows(sweeps: Sequence[SweepData]) -> list[Row]:
    """The rows of all sweeps, each trial once; of several, each says as a field of its victim which sweeps have that.

    A setting that several sweeps have is one, with the seeds of all. A victim whose control is in another sweep gets
    its clean drop from there.
    """
    if len(sweeps) == 1:
        return [*sweeps[0].rows]
    order = columns(row for sweep in sweeps for row in sweep.rows)
    named = [(sweep.name, [_ordered(row, order) for row in sweep.rows]) for sweep in sweeps]
    held: dict[Any, dict[str, None]] = {}
    for name, rows in named:
        for victim, _ in group_by_configuration(rows):
            held.setdefault(victim, {})[name] = None
    found: dict[Any, Row] = {}
    for _, rows in named:
        for (victim, _), members in group_by_configuration(rows).items():
            for row in members:
                key = row["digest"], row["cells"], row.get(f"victim.{KEY_SIZE}")
                if key not in found or found[key]["status"] != "done":
                    found[key] = {"victim.sweep": " + ".join(held[victim]), **row}
    return [*_with_clean_drop([*found.values()])]


def _ordered(row: Row, order: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in order if name in row}


def _with_clean_drop(rows: Sequence[Row]) -> Iterator[Row]:
    twins = [_unwatermarked_twin(row) for row in rows]
    controls = {
        twin: row["clean_acc"]
        for twin, row in zip(twins, rows, strict=True)
        if row["victim.scheme.kind"] == "none" and row["clean_acc"] is not None
    }
    for twin, row in zip(twins, rows, strict=True):
        known = row.get("clean_drop") is None and row["clean_acc"] is not None and twin in controls
        yield {**row, "clean_drop": controls[twin] - row["clean_acc"]} if known else row


def _unwatermarked_twin(row: Row) -> str:
    """The name that a trial shares with its unmarked control."""
    tree = json.loads(row["trial"])
    del tree["victim"]["scheme"]
    return digest(tree)
