"""What a trial yields: a row per epoch, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mwm.stats.binomial import DEFAULT_LEVEL


def robustness(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What a victim's attacks left of its watermark: worst and mean query accuracy, and the worst log10 p.

    The log10 p is the decision's, and the worst one the largest. Empty if there was no attack, or one failed: the worst
    may be just the one that is missing.
    """
    matches = [outcome.query_acc for outcome in outcomes if outcome.query_acc is not None]
    chances = [outcome.log10_p for outcome in outcomes if outcome.log10_p is not None]
    if not outcomes or len(matches) < len(outcomes):
        return {}
    found = {"worst_query_acc": min(matches), "mean_query_acc": sum(matches) / len(matches)}
    return found | ({"worst_log10_p": max(chances)} if len(chances) == len(outcomes) else {})


def kept(log10_p: float | None, query_acc: float | None) -> tuple[float, float]:
    """By which networks are compared: -log10 p, and where no test is exact how many queries keep their secret label."""
    return 0.0 - (log10_p or 0.0), query_acc or 0.0


TRIAL_KINDS = ("victim", "attack")

STATUSES = ("done", "failed", "skipped", "stopped")

PROVEN_AT_DEFAULT = "proven_1e3"

UNMARKED = "unmarked"
"""What a victim is called whose scheme was to mark it, and whose own key is not proven on it at the usual level."""

LEVEL = f"p ≤ {DEFAULT_LEVEL:g}".replace("0.", ".")
"""The usual level, as people write it."""

UNPROVEN = f"{UNMARKED}: the own key is not proven at {LEVEL}"
"""What is said of such victims."""

SKIPPED_UNMARKED = "its victim carries no watermark"
"""Why attacks on such a victim are skipped."""

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
    """What a trial measured. Accuracies are shares; margins are in logits.

    The watermark is judged by `p_value`: exact, one-sided, of all that the network answers to the key. It is
    min(1, 2 min(`p_labels`, `p_scores`)), of the test on first choices and of that on scores; `proven_1e3` and
    `proven_1e6` say whether it proves the watermark at these levels. All are None where a scheme's labels allow no
    exact test. `marked` says of a victim with a scheme whether its own key is proven on it, as `proven_1e3` does; it is
    None of a control, of an attack, and where no test is exact. `wrong_answers` is in how many cells of the key a first
    choice was wrong, `mean_rank` the mean rank of the secret labels among the wrong classes by scores: 0 if first, .5
    by chance. Where the victim asks for a `control`, its answers were subtracted first, and `log10_p_uncontrolled` is
    of the answers as they are.

    For comparison with the literature, and to decide nothing: `query_acc`, the share of cells answered with their
    secret label, its 95 % interval `query_low` to `query_high`, and `p_unconditional`, Binomial over all cells.
    `query_hits` has a 1 for every cell that matches, in the key's order, and a 0 for every other. `label_ranks` and
    `score_ranks` are the ranks by labels and by scores, cell by cell. The three are also there of a control on a key
    with a cell for each class (`class_query_hits`, ...).

    Of a network with two keys, all of this is of the first, but for the decision: `p_value` is the least of all tests
    of both keys times their number, 4. `second_log10_p` is what the second key would show alone, `second_label_ranks`
    and `second_score_ranks` are its ranks.

    `start_acc` is the clean accuracy of the weights that a victim starts from, before its first step.
    `reestimated_clean_acc` and `reestimated_query_acc` are those of a watermarked victim once the running statistics of
    batch normalisation are estimated anew on clean images; where they differ, accuracy rests on damaged statistics.
    `attacker_images` is how many images an attacker holds. `steps` tells what each part of a sequence ended with: its
    kind, its last epoch, clean and query accuracy, and the oracle calls so far. `false_rejects` is the share of honest
    test images that a network which detects queries turns away.
    `agreement` is the share of test images on which the attacker's network and the victim answer alike. `oracle_calls`
    counts images; None where nobody was asked. `seconds` and `peak_mib` are those of the training over all its
    attempts, without time and memory of a lost epoch. The peak is the most that PyTorch reserved on the GPU, or on a
    CPU the most that was resident of the process, libraries included.
    """

    status: Literal["done", "failed", "skipped", "stopped"]
    error: str = ""
    digest: str
    victim_digest: str
    data_digest: str
    query_digest: str = ""
    start_acc: float | None = None
    clean_acc: float | None = None
    query_acc: float | None = None
    query_low: float | None = None
    query_high: float | None = None
    query_matches: int | None = None
    query_hits: str = ""
    wrong_answers: int | None = None
    mean_rank: float | None = None
    label_ranks: str = ""
    score_ranks: str = ""
    class_query_hits: str = ""
    class_label_ranks: str = ""
    class_score_ranks: str = ""
    second_label_ranks: str = ""
    second_score_ranks: str = ""
    reestimated_clean_acc: float | None = None
    reestimated_query_acc: float | None = None
    agreement: float | None = None
    margin_mean: float | None = None
    margin_min: float | None = None
    p_labels: float | None = None
    log10_p_labels: float | None = None
    p_scores: float | None = None
    log10_p_scores: float | None = None
    p_value: float | None = None
    log10_p: float | None = None
    log10_p_uncontrolled: float | None = None
    second_log10_p: float | None = None
    p_unconditional: float | None = None
    log10_p_unconditional: float | None = None
    proven_1e3: bool | None = None
    proven_1e6: bool | None = None
    marked: bool | None = None
    attacker_images: int | None = None
    oracle_calls: int | None = None
    steps: Sequence[Mapping[str, Any]] = ()
    false_rejects: float | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    best_epoch: int | None = None
    parameters: int | None = None
    classes: int | None = None
    device: str = ""


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
