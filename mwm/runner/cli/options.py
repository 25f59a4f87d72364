"""What several commands share: their options, where they print, how a mistake names the option that holds it."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

if TYPE_CHECKING:
    from mwm.storage.store import Store

LINE = 120
"""Width of what is printed where no terminal says its own."""

SHORTEST, WHOLE = 8, 16
"""Digits by which a trial is named."""

Storage = Annotated[str, Parameter(help="Folder of results/ and store/, or s3://BUCKET/PATH.")]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Where a sweep is recorded."""

    tracking_uri: str | None = None
    """MLflow to record in; without it MLFLOW_TRACKING_URI, else mlflow.db in this folder."""
    experiment: str | None = None
    """Experiment to record in, one named like the sweep below it if it ends with /; without it that of the last time, \
else one named like the sweep."""


RecordingOptions = Annotated[Recording, Parameter(name="*")]
NOWHERE_ELSE = Recording()

SweepName = Annotated[str, Parameter(name="NAME", help="A sweep in results/.")]

Json = Annotated[bool, Parameter(name="--json", help="Print everything as JSON, for a program.")]


def find_digest(beginning: str, store: Store) -> str:
    """The digest of the trial of a store that begins so; ValueError, in one line, for none or several."""
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},{WHOLE}}}", beginning):
        allowed = f"must be {WHOLE} hexadecimal digits, as in results.csv, or the first {SHORTEST} or more of them"
        raise ValueError(f"DIGEST: {beginning!r} is not allowed: {allowed}")
    if len(beginning) == WHOLE:
        return beginning
    there = store.find(beginning)
    if len(there) != 1:
        known = f"several trials of this store begin so: {', '.join(there)}" if there else "no finished trial begins so"
        raise ValueError(f"DIGEST: {beginning}: {known}")
    return there[0]


def make_console() -> Console:
    """Where a command prints: as wide as the terminal, and of a fixed width into a file."""
    return Console() if sys.stdout.isatty() else Console(width=LINE)


def as_option(message: str, names: Collection[str] | None = None) -> str:
    """What is said of a field, as in `order_seed: -1 is ...`, as it is said of its option: `--order-seed: -1 is ...`.

    Only of the fields `names`; without them, of whatever a message begins with.
    """
    field, colon, rest = message.partition(":")
    named = field.isidentifier() if names is None else field in names
    return f"--{field.replace('_', '-')}{colon}{rest}" if named else message
