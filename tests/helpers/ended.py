"""Trials that have ended, made up for tests of what is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mwm.config.spec import decode, digest
from mwm.runner.reporting.results import TrialResult
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial

MARGIN = {"kind": "margin", "num_queries": 20, "step_size": 10 / 255}
NONE = {"kind": "none"}
SOFT, HARD = {"kind": "extraction"}, {"kind": "extraction", "labels": "hard"}
DISTILLED = {"kind": "distillation"}


def trial(scheme: dict[str, Any], seed: int = 0, attack: dict[str, Any] | None = None, **victim: Any) -> Trial:
    tree = {"data": "digits", "model": {"kind": "cnn", "width": 8}, "recipe": {"epochs": 3, "batch_size": 64}}
    made: Trial = decode(Trial, {"victim": tree | {"scheme": scheme, "seed": seed} | victim, "attack": attack})
    return replace(made, attack=made.attack and made.attack.resolve(made.victim))


def result(made: Trial, **measured: Any) -> TrialResult:
    told: dict[str, Any] = {
        "status": "done",
        "clean_acc": 0.95,
        "query_acc": 0.5,
        "log10_p": -5.0,
        "seconds": 6.1,
    } | measured
    if told["log10_p"] is not None:
        told = {"proven_1e3": told["log10_p"] <= -3, "proven_1e6": told["log10_p"] <= -6} | told
    name, victim = digest(made), digest(replace(made, attack=None))
    return TrialResult(made, Outcome(digest=name, victim_digest=victim, data_digest="d" * 16, **told), f"run-{name}")


def failed(made: Trial, status: str = "failed") -> TrialResult:
    return result(made, status=status, clean_acc=None, query_acc=None, log10_p=None, error="the loss is nan")


def stolen(scheme: dict[str, Any], seed: int, attack: dict[str, Any], query: float, **more: Any) -> TrialResult:
    """A student with so many of the queries; from a tenth of them on the watermark is proven."""
    proof = {"query_acc": query, "log10_p": -30 * query, "oracle_calls": attack.get("query_budget", 50_000)}
    return result(trial(scheme, seed, attack), **(proof | more))
