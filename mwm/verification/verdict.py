"""A verdict as a record: what was fixed before, what each suspect answered, what that is worth, what to know of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

PROVEN, NOT_PROVEN = "proven", "not proven"

FORMAT_VERSION, PROCEDURE_VERSION = 2, 1
"""Of the verdict; and raised with every change of what is asked or how it is judged: no old answer is then reused."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What one test says of the answers of a suspect.

    `log10_p` tells a p-value that is too small for a number. The comparison with null models says how many of them
    (`null_models`) matched on as many queries as the suspect (`as_many`).
    """

    __test__: ClassVar[bool] = False  # pytest takes every class of this name for a test

    p_value: float
    log10_p: float | None = None
    as_many: int | None = None
    null_models: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """What it says, as a tree."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class KeySummary:
    """What may be said of a key: not its secret. `committed`: it opens a commitment that was given."""

    commitment: str
    committed: bool
    guessable: bool
    created: str
    rule: str
    scheme: str
    queries: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class VerdictPlan:
    """What was fixed before anything was asked: the test, its level, and the first `queries` in an order by a seed."""

    test: str
    level: float
    queries: int
    order_seed: int


@dataclass(frozen=True, kw_only=True)
class SuspectResult:
    """What one suspect answered, and what that is worth.

    `matches` of the queries `asked` (their numbers in the key are `queries`); `unanswered` and answers that name
    `no_class` of the key match nothing. `interval` is that of the match rate (Clopper and Pearson, 95 %). `p_value`
    and `log10_p`, if it tells it, are those of the test that decides, `adjusted_p_value` is for the number of suspects
    (Holm, 1979). `sha256` is that of its files, or empty. `requests` took `seconds` and were answered from `began` to
    `ended`.
    """

    name: str
    access: str
    sha256: str
    decision: str
    matches: int
    asked: int
    unanswered: int
    no_class: int
    match_rate: float
    interval: tuple[float, float]
    p_value: float
    log10_p: float | None
    adjusted_p_value: float
    tests: dict[str, TestResult | None]
    queries: tuple[int, ...]
    requests: int
    seconds: float
    began: str
    ended: str

    def to_dict(self) -> dict[str, Any]:
        """What it says, as a tree."""
        tree = {field.name: getattr(self, field.name) for field in fields(self)}
        tree |= {"interval": list(self.interval), "queries": list(self.queries)}
        return tree | {"tests": {name: test and test.to_dict() for name, test in self.tests.items()}}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision on several suspects: *proven* if it is for one of them.

    `asked_now` counts the queries that each was asked for it now; the other answers were known. `output` is the folder
    of the report, if one was written.
    """

    decision: str
    key: KeySummary
    plan: VerdictPlan
    suspects: tuple[SuspectResult, ...]
    notes: tuple[str, ...]
    asked_now: tuple[int, ...] = ()
    output: Path | None = None

    @property
    def proven(self) -> bool:
        """Whether one of the suspects is proven to be a copy."""
        return self.decision == PROVEN

    def to_dict(self) -> dict[str, Any]:
        """The tree of verdict.json: neither the key's secret, nor when and where it was written."""
        return {
            "format": FORMAT_VERSION,
            "decision": self.decision,
            "key": asdict(self.key),
            "plan": asdict(self.plan),
            "suspects": [suspect.to_dict() for suspect in self.suspects],
            "notes": list(self.notes),
        }
