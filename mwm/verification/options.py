"""A case: what is to be shown of whom, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.storage.redaction import redact
from mwm.verification.decision import BINOMIAL, SEQUENTIAL

BATCH_SIZE, SEQUENTIAL_BATCH_SIZE = 100, 10
"""Queries in a request, and at most where each answer may be the last that is needed."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """The options of `launch.py verify`. None leaves a choice open."""

    key: Path
    suspects: Sequence[str]
    trust: bool = False
    queries: int | None = None
    order_seed: int = 0
    level: float = DEFAULT_LEVEL
    sequential: bool = False
    null: Path | None = None
    commitment: str | None = None
    batch: int | None = None
    timeout: float = 30.0
    retries: int = 5
    rate: float | None = None
    skip_unanswered: bool = False
    again: bool = False
    report: Path | None = None
    tracking_uri: str | None = None
    storage: str = "."

    def __post_init__(self) -> None:
        positive = "must be above 0"
        for name, value, fine, allowed in (
            ("level", self.level, 0 < self.level < 1, "must lie strictly between 0 and 1"),
            ("order-seed", self.order_seed, self.order_seed >= 0, "must be 0 or more"),
            ("queries", self.queries, self.queries is None or self.queries > 0, positive),
            ("batch", self.batch, self.batch is None or self.batch > 0, positive),
            ("rate", self.rate, self.rate is None or self.rate > 0, positive),
            ("timeout", self.timeout, self.timeout > 0, positive),
            ("retries", self.retries, self.retries >= 0, "must be 0 or more"),
        ):
            if not fine:
                raise ValueError(f"--{name}: {value:g} is not allowed: {allowed}")
        for address in self.suspects:
            if self.suspects.count(address) > 1:
                raise ValueError(f"--suspect: {redact(address)} is given twice; once is enough")
        if self.report is None and "://" in self.storage:
            place = redact(self.storage)
            raise ValueError(f"--storage: {place} holds no verdicts; name a folder on this machine by --report")

    @property
    def test(self) -> str:
        """The test that decides."""
        return SEQUENTIAL if self.sequential else BINOMIAL

    @property
    def level_per_suspect(self) -> float:
        """The level at which one suspect is convicted whatever becomes of the others."""
        return self.level / len(self.suspects)

    @property
    def batch_size(self) -> int:
        """Queries in a request at most."""
        most = self.batch or BATCH_SIZE
        return min(most, SEQUENTIAL_BATCH_SIZE) if self.sequential else most
