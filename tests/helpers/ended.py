"""Trials that have ended, made up for tests of what is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.config.spec import decode, digest
from mwm.runner.reporting.results import TrialResult
from mwm.trials.outcome import Outcome
from mwm.trials.scoring import scored
from mwm.trials.trial import Trial
from mwm.watermarks.evidence import weigh

MARGIN = {"kind": "margin", "num_queries": 20, "step_size": 10 / 255}
NONE, CONFUSION = {"kind": "none"}, {"kind": "confusion"}
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


Answers = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def answers(hint: float, *, cells: int = 20, classes: int = 10, ahead: float = 6.0, seed: int = 0) -> Answers:
    """Scores on a key, its secret labels and its true ones: the secret ones score `hint` more than chance has it.

    The true class is `ahead` by so much: the more, the fewer of the cells are answered wrongly.
    """
    drawn = np.random.default_rng(seed)
    truth = drawn.integers(classes, size=cells)
    labels = (truth + drawn.integers(1, classes, size=cells)) % classes
    scores = drawn.normal(size=(cells, classes))
    scores[np.arange(cells), truth] += ahead
    scores[np.arange(cells), labels] += hint
    return scores, labels, truth


def shown(scores: NDArray[np.float64], labels: NDArray[np.int64], truth: NDArray[np.int64]) -> dict[str, Any]:
    """What an outcome says of answers to a key."""
    hits, classes = "".join("01"[hit] for hit in (scores.argmax(1) == labels).tolist()), scores.shape[1]
    return scored(hits, weigh(scores, labels, truth, classes=classes), classes) | {"classes": classes}


def unmarked(images: Answers, key: Answers) -> dict[str, Any]:
    """What an outcome says of a control's answers to all images, and to the key with a cell for each class."""
    told = shown(*key)
    return shown(*images) | {f"class_{name}": told[name] for name in ("query_hits", "label_ranks", "score_ranks")}


def control(seed: int = 0, attack: dict[str, Any] | None = None, **measured: Any) -> TrialResult:
    """An unmarked network, or a student of one, which answers by chance."""
    place = 1000 + 10 * seed + len(str(attack))
    told = unmarked(answers(0, cells=100, seed=place), answers(0, cells=10, seed=place + 5))
    return result(trial(NONE, seed, attack), **told | {"clean_acc": 0.98} | measured)
