"""The folder of a verdict: what a person reads, what a stranger can check, what its owner can sign."""

from __future__ import annotations

import json
from pathlib import Path

from mwm.storage.filesystem import write_atomic
from mwm.storage.local import sha256
from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.report.exhibit import Exhibit
from mwm.verification.report.page import CHECKSUMS, html_report
from mwm.verification.verdict import Verdict

VERDICT, REPORT, HANDOUT = "verdict.json", "report.html", "handout.html"
"""The handout is the report without the questions of the key."""


def write_report(folder: Path, verdict: Verdict, exhibit: Exhibit) -> None:
    """Write the verdict, its pages and the sums of all files; the same verdict gives the same bytes."""
    write_atomic(folder / VERDICT, json.dumps(verdict.to_dict(), indent=1) + "\n")
    write_atomic(folder / REPORT, html_report(verdict, exhibit))
    write_atomic(folder / HANDOUT, html_report(verdict))
    sums = {name: sha256(folder / name) for name in (ANSWERS, HANDOUT, REPORT, VERDICT)}
    write_atomic(folder / CHECKSUMS, "".join(f"{value}  {name}\n" for name, value in sums.items()))
