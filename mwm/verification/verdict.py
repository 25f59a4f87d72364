"""A verdict as a record: what was fixed before, what each suspect answered, what that is worth, what to know of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

PROVEN, NOT_PROVEN, INCONCLUSIVE = "proven", "not proven", "inconclusive"

KEYS_OWN = "the key's"
"""The order of classes of a suspect that numbers them as the key does."""

DECIDED, ALL_ASKED, OUT_OF_REACH = "decided", "all asked", "out of reach"
"""Why the sequential test stopped: it reached its limit; nothing was left; nothing that was left could reach it."""

FORMAT_VERSION, PROCEDURE_VERSION = 4, 3
"""Of the verdict; and raised with every change of what is asked or how it is judged: no old answer is then reused."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What one test says of the answers of a suspect.

    `log10_p` tells a p-value that is too small for a number. The comparison with null models says how many of them
    (`null_models`) matched on as many cells as the suspect (`as_many`).
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
class Comparison:
    """What networks that never saw the key answered to the cells that a suspect was asked.

    `who` they are: the control or null models, so many `networks`. In the mean they named the true class of so many
    (`right`), and the secret label of so many (`matches`).
    """

    who: str
    networks: int
    right: float
    matches: float


@dataclass(frozen=True, kw_only=True)
class KeySummary:
    """What may be said of a key: not its secret. `committed`: it opens a commitment that was given.

    It has so many images (`queries`) in so many `cells`, of which each has a secret label. `null` says how these were
    drawn, `class_names` what its classes are called, if they have names.
    """

    commitment: str
    committed: bool
    guessable: bool
    created: str
    rule: str
    scheme: str
    null: str
    queries: int
    cells: int
    classes: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ControlSummary:
    """The network whose answers were subtracted. `sha256` is that of its files, or empty."""

    name: str
    access: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class VerdictPlan:
    """What was fixed before anything was asked.

    The test that decides, its level, and what is asked: the first `cells` of the key in an order by a seed, with all
    their images in so many `views`, which makes so many `images`. They are shown to suspects in an `input_range` and
    `layout`, and the answers read in a `class_order`. Their scores are put into the forms that `answers` says before
    they are judged; empty for answers as they come. A suspect that is not proven and gives a smaller share of true
    classes than the `accuracy_bound` is inconclusive.
    """

    test: str
    level: float
    cells: int
    views: int
    images: int
    order_seed: int
    input_range: str
    layout: str
    class_order: str
    accuracy_bound: float
    control: ControlSummary | None
    answers: str = ""


@dataclass(frozen=True, kw_only=True)
class SuspectResult:
    """What one suspect answered, and what that is worth.

    It was `asked` about so many cells of the key (their numbers are `cells`), by so many `images`; some are
    `unanswered`, and some answers name `no_class` of the key. The `form` of its answers is labels or scores.
    `wrong_answers` counts the cells with a wrong first choice, `mean_rank` is that of the secret labels among the wrong
    classes: 0 if they are always first, .5 by chance.

    `p_labels` is the p-value by first choices, `p_scores` by scores, `p_value` that of the test that decides;
    `adjusted_p_value` is for the number of suspects (Holm, 1979). Each `log10_p` tells what is too small for a number.
    None is what cannot be told. `matches` counts the cells that were taken for their secret label, `interval` is that
    of their rate (Clopper and Pearson, 95 %). `right` counts those that were taken for their true class. Where these
    are too few, `reasons` are what may be the matter, in words; to find them it was shown `tried` images more, which
    are no evidence. `secret_first` counts the cells whose secret label has a better score than every other wrong class;
    None without scores. `compared` are networks that were asked the same.

    `limit` is the largest p-value by which it would be proven, as the level is shared. The sequential test says why it
    `stopped`, and about how many cells `more`, answered like those so far, would decide it; None where that is unknown.

    `sha256` is that of its files, or empty. `requests` took `seconds` and were answered from `began` to `ended`.
    """

    name: str
    access: str
    sha256: str
    form: str
    decision: str
    p_value: float
    log10_p: float | None
    adjusted_p_value: float
    limit: float
    p_labels: float | None
    log10_p_labels: float | None
    p_scores: float | None
    log10_p_scores: float | None
    wrong_answers: int
    mean_rank: float
    secret_first: int | None
    matches: int
    right: int
    match_rate: float
    interval: tuple[float, float]
    tests: dict[str, TestResult | None]
    asked: int
    images: int
    unanswered: int
    no_class: int
    cells: tuple[int, ...]
    requests: int
    seconds: float
    began: str
    ended: str
    reasons: tuple[str, ...] = ()
    tried: int = 0
    compared: tuple[Comparison, ...] = ()
    stopped: str | None = None
    more: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """What it says, as a tree."""
        tree = {field.name: getattr(self, field.name) for field in fields(self)}
        tree |= {name: list(tree[name]) for name in ("interval", "cells", "reasons")}
        tree |= {"compared": [asdict(one) for one in self.compared]}
        return tree | {"tests": {name: test and test.to_dict() for name, test in self.tests.items()}}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision on several suspects: *proven* if it is for one of them, else *inconclusive* if it is for one.

    `asked_now` counts the images that each was shown for it now; the other answers were known. `output` is the folder
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
            "key": asdict(self.key) | {"class_names": list(self.key.class_names)},
            "plan": asdict(self.plan),
            "suspects": [suspect.to_dict() for suspect in self.suspects],
            "notes": list(self.notes),
        }
