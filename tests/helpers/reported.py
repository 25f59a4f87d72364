"""Sweeps that have ended, as the files from which a report is made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mwm.config.spec import encode
from mwm.runner.reporting.export import write_results
from mwm.runner.reporting.results import TrialResult
from tests.helpers.ended import CONFUSION, HARD, MARGIN, SOFT, control, failed, result, stolen, trial

BEGIN: dict[str, Any] = {
    "at": 1.5,
    "event": "begin",
    "provenance": {"git.revision": "abc123", "version.torch": "2.14.1"},
}


def ended(seeds: int = 2) -> list[TrialResult]:
    """A control, a margin that keeps 12 and 6 after two attacks, and a confusion that keeps 2 after one that ended."""
    found = []
    for seed in range(seeds):
        clean = {"clean_acc": 0.97}
        found += [control(seed), control(seed, SOFT), control(seed, HARD)]
        found.append(result(trial(MARGIN, seed), log10_p=-26.0, query_acc=1.0, peak_mib=900.0, device="cpu", **clean))
        found += [stolen(MARGIN, seed, SOFT, 0.4, **clean), stolen(MARGIN, seed, HARD, 0.2, **clean)]
        found.append(result(trial(CONFUSION, seed), log10_p=-9.0, query_acc=0.0, clean_acc=0.98))
        found.append(stolen(CONFUSION, seed, SOFT, 0.0, log10_p=-2.0, clean_acc=0.98))
    return [*found, failed(trial(CONFUSION, 0, HARD))]


def sweep_folder(folder: Path, results: Sequence[TrialResult], **asked: Any) -> Path:
    """The folder of a sweep that ended with these results."""
    folder.mkdir(parents=True)
    victim = encode(results[0].trial)["victim"]
    tree = {"name": folder.name, "description": "which one `survives`?", "victim": victim} | asked
    (folder / "sweep.json").write_text(json.dumps(tree))
    (folder / "journal.jsonl").write_text(json.dumps(BEGIN, separators=(",", ":")) + "\n")
    write_results(folder, folder.name, results, seconds=75.0, complete=True)
    return folder
