"""What a report says in words: what is missing, how a sweep came about, and what its numbers do not say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from mwm.runner.reporting.groups.configurations import Groups, victims_of
from mwm.runner.reporting.groups.measures import damaged_statistics, unmarked_victims
from mwm.runner.reporting.groups.names import attack_names, victim_names
from mwm.runner.reporting.report.source import SweepData
from mwm.trials.names import duration
from mwm.trials.outcome import STATUSES, UNPROVEN

MOST_FAILURES = 10

LIMITS = (
    "The worst attack is the worst of those that were tried. Others may leave less.",
    "Attacks are comparable only where their threat models agree, and there by the images and calls that each had: "
    "see the table of threat models.",
    "That a watermark is not proven does not mean that the network is independent.",
    "A mean over few seeds is rough. Differences that are smaller than the spread between seeds say nothing.",
    "What holds for these data and this network need not hold for larger ones.",
    "The table of detections takes all settings and seeds of a scheme together: its interval is exact for one setting.",
    "On another processor, or with other versions, the same commands give other numbers within the spread of seeds.",
)
"""In short what docs/limits.md says at length."""


def missing(groups: Groups) -> Iterator[str]:
    """Which victims carry no watermark, and which trials did not end well, and why: a line for each setting, attack."""
    victims, attacks = victim_names(victims_of(groups)), attack_names(groups)
    lines = [
        f"{victims[victim]}: {unmarked} of {count} {UNPROVEN}"
        for victim, (unmarked, count) in unmarked_victims(groups).items()
    ]
    for (victim, attack), members in groups.items():
        for status in STATUSES[1:]:
            ended = {row["digest"]: row for row in members if row["status"] == status}
            if ended:
                name = f"{attacks[attack]} on {victims[victim]}" if attack else victims[victim]
                why = "; ".join(dict.fromkeys(row["error"] for row in ended.values() if row.get("error")))
                lines.append(f"{name}: {len(ended)} {status}" + f" ({why})" * bool(why))
    yield from lines[:MOST_FAILURES]
    if len(lines) > MOST_FAILURES:
        yield f"and {len(lines) - MOST_FAILURES} more, in results.csv"


def counts(sweep: SweepData) -> str:
    """How many trials of a sweep ended how."""
    ended = {row["digest"]: (row["kind"], row["status"]) for row in sweep.rows}.values()
    told = []
    for kind in ("victim", "attack"):
        every = [status for own, status in ended if own == kind]
        each = [f"{every.count(status)} {status}" for status in STATUSES if status in every]
        told.append(f"{kind}s: {', '.join(each) or 'none'}")
    return "; ".join(told)


def provenance(sweep: SweepData) -> dict[str, str]:
    """How the results of a sweep came about: names, digests, revision, versions, and the commands that repeat it."""
    made = dict(sweep.provenance)
    revision, dirty = made.pop("git.revision", ""), made.pop("git.dirty", "")
    versions = [
        f"{name.removeprefix('version.')} {value}" for name, value in made.items() if name.startswith("version.")
    ]
    data = dict.fromkeys(row["data_digest"] for row in sweep.rows if row.get("data_digest"))
    told = {
        "trials": counts(sweep),
        "duration": _duration(sweep.summary),
        "revision": f"`{revision}`{_changed(dirty)}" if revision else "",
        "versions": ", ".join(versions),
        "data": ", ".join(f"`{one}`" for one in data),
        "tags": ", ".join(f"{name}={value}" for name, value in sweep.sweep.get("tags", {}).items()),
        "to repeat it": _commands(revision),
    }
    return {name: value for name, value in told.items() if value}


def _duration(summary: Mapping[str, Any]) -> str:
    if "seconds" not in summary:
        return ""
    told = duration(summary["seconds"])
    unit = "h:mm:ss" if told.count(":") > 1 else "m:ss"
    return f"{told} ({unit})" + "; not all trials are done" * (not summary.get("complete"))


def _changed(dirty: str) -> str:
    return {"True": " and changes that were not committed", "False": ""}.get(dirty, "")


def _commands(revision: str) -> str:
    checkout = f"`git checkout {shlex.quote(revision)}`, then " * (revision not in ("", "unknown"))
    return f"{checkout}`launch.py run sweep.json --storage NEW` with the file below, where NEW holds no results yet"


def sweep_file(sweep: SweepData) -> str:
    """What was asked, as a file that can be run; of the file with the owner's secret its name alone."""
    if not sweep.sweep:
        return ""
    secret = sweep.sweep["victim"].get("secret")
    named = {"secret": PurePath(secret).name} if isinstance(secret, str) else {}
    asked = {**sweep.sweep, "victim": sweep.sweep["victim"] | named}
    return json.dumps(asked, indent=1, ensure_ascii=False)


def limits(groups: Groups) -> Iterator[str]:
    """What these numbers do not say."""
    if damaged_statistics(groups):
        yield "Some accuracies rest on damaged statistics: see the warnings under the first table."
    yield from LIMITS
