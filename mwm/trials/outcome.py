"""What a trial yields: a row per epoch, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mwm.stats.binomial import DEFAULT_LEVEL, log10_p, p_value
from mwm.stats.intervals import clopper_pearson


def robustness(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What a victim's attacks left of its watermark: worst and mean query accuracy, worst log10 p of the students.

    Empty if there was no attack, or one failed: the worst may be just the one that is missing.
    """
    matches = [outcome.query_acc for outcome in outcomes if outcome.query_acc is not None]
    chances = [outcome.log10_p for outcome in outcomes if outcome.log10_p is not None]
    if not outcomes or len(matches) < len(outcomes):
        return {}
    found = {"worst_query_acc": min(matches), "mean_query_acc": sum(matches) / len(matches)}
    return found | ({"worst_log10_p": max(chances)} if len(chances) == len(outcomes) else {})


TRIAL_KINDS = ("victim", "attack")

STATUSES = ("done", "failed", "skipped", "stopped")

PROVEN_AT_DEFAULT = "proven_1e3"

LEVELS = {PROVEN_AT_DEFAULT: DEFAULT_LEVEL, "proven_1e6": 1e-6}
"""The levels at which a watermark is proven, by the names of the decisions."""


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One epoch of a trial."""

    epoch: int
    loss: float
    lr: float
    val_acc: float
    query_acc: float
    epoch_seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial measured. Accuracies are shares; margins are in logits; `p_value` is one-sided and exact.

    `query_hits` has a 1 for every cell of the key that matches, in its order, and a 0 for every other; `query_low` and
    `query_high` are the 95 % interval of their share. `proven_1e3` and `proven_1e6` say whether the watermark is proven
    at these levels; like `p_value` they are None where a scheme's labels allow no exact test. `agreement` is the share
    of test images on which the attacker's network and the victim answer alike. `oracle_calls` counts images; None where
    nobody was asked. `seconds` and `peak_mib` are those of the training over all its attempts, without time and memory
    of a lost epoch. The peak is the most that PyTorch reserved on the GPU, or on a CPU the most that was resident of
    the process, libraries included.
    """

    status: Literal["done", "failed", "skipped", "stopped"]
    error: str = ""
    digest: str
    victim_digest: str
    data_digest: str
    query_digest: str = ""
    clean_acc: float | None = None
    query_acc: float | None = None
    query_low: float | None = None
    query_high: float | None = None
    query_matches: int | None = None
    query_hits: str = ""
    agreement: float | None = None
    margin_mean: float | None = None
    margin_min: float | None = None
    p_value: float | None = None
    log10_p: float | None = None
    proven_1e3: bool | None = None
    proven_1e6: bool | None = None
    oracle_calls: int | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    best_epoch: int | None = None
    parameters: int | None = None
    classes: int | None = None
    device: str = ""


def scored(hits: str, classes: int) -> dict[str, Any]:
    """What a network shows on a key of which it hits some cells ("0110"): matches, p-value, decisions.

    One-sided and exact for labels drawn uniformly from the wrong classes (Binomial).
    """
    matches, cells = hits.count("1"), len(hits)
    chance = p_value(matches, cells, classes)
    return {
        "query_hits": hits,
        "query_matches": matches,
        "query_acc": matches / cells,
        "p_value": chance,
        "log10_p": log10_p(matches, cells, classes),
        **decisions(chance, matches, cells),
    }


def on_smaller_key(outcome: Outcome, cells: int) -> Outcome:
    """An outcome as scored on the first cells of its key alone: on the smaller key of the same secret."""
    if outcome.classes is None or not 0 < cells < len(outcome.query_hits):
        return outcome
    smaller = scored(outcome.query_hits[:cells], outcome.classes)
    return replace(outcome, margin_mean=None, margin_min=None, query_digest="", **smaller)


def decisions(chance: float, matches: int, queries: int) -> dict[str, Any]:
    """What follows from a p-value and its matches: the decision at each level, the 95 % interval of the match rate."""
    low, high = clopper_pearson(matches, queries)
    return {name: chance <= level for name, level in LEVELS.items()} | {"query_low": low, "query_high": high}


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """What a worker tells the driver: epochs since the last report, and the outcome or the error at the end.

    `transient`: the error may pass, and the trial is not to blame.
    """

    rows: Sequence[EpochMetrics] = ()
    outcome: Outcome | None = None
    error: str = ""
    transient: bool = False

    def pack(self) -> dict[str, Any]:
        """The report as a scheduler passes it on; a list, since nested mappings would be flattened."""
        return {"report": [asdict(self)]}

    @staticmethod
    def unpack(result: Mapping[str, Any]) -> TrialReport:
        """The report in what a scheduler has passed on."""
        told = result["report"][0]
        outcome = told["outcome"] and Outcome(**told["outcome"])
        return TrialReport(**told | {"rows": [EpochMetrics(**row) for row in told["rows"]], "outcome": outcome})
