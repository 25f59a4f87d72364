"""From what a network answers to a key to what an outcome says of it: on a whole key, a smaller one, one of classes."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from mwm.stats import binomial
from mwm.stats.intervals import clopper_pearson
from mwm.stats.rank_sum import RankSum
from mwm.trials.outcome import LEVELS, Outcome
from mwm.watermarks.evidence import Evidence

UNTESTED = {name: None for field in fields(Outcome) if (name := field.name).startswith(("p_", "log10_p", "proven_"))}
"""What an outcome says of tests where a scheme's labels allow no exact one."""


def scored(hits: str, evidence: Evidence, classes: int) -> dict[str, Any]:
    """What a network shows on a key of which it matches some cells ("0110"): p-values, decisions, ranks.

    Where there is a second key, both decide together; all the rest is of the first one.
    """
    matches, cells = hits.count("1"), len(hits)
    low, high = clopper_pearson(matches, cells)
    labels, scores = evidence.labels, evidence.scores
    assert scores is not None, "a network at hand gives scores"
    return {
        "query_hits": hits,
        "query_matches": matches,
        "query_acc": matches / cells,
        "query_low": low,
        "query_high": high,
        "wrong_answers": evidence.wrong_answers,
        "mean_rank": evidence.mean_rank,
        "label_ranks": labels.pack(),
        "score_ranks": scores.pack(),
        "p_labels": labels.p_value,
        "log10_p_labels": labels.log10_p,
        "p_scores": scores.p_value,
        "log10_p_scores": scores.log10_p,
        "p_value": evidence.p_value,
        "log10_p": evidence.log10_p,
        "p_unconditional": binomial.p_value(matches, cells, classes),
        "log10_p_unconditional": binomial.log10_p(matches, cells, classes),
        **{name: evidence.p_value <= level for name, level in LEVELS.items()},
        **({} if evidence.second is None else _scored_second(evidence.second)),
    }


def _scored_second(evidence: Evidence) -> dict[str, Any]:
    """What the second key tells by itself."""
    assert evidence.scores is not None, "a network at hand gives scores"
    return {
        "second_log10_p": evidence.log10_p,
        "second_label_ranks": evidence.labels.pack(),
        "second_score_ranks": evidence.scores.pack(),
    }


def on_smaller_key(outcome: Outcome, cells: int) -> Outcome:
    """An outcome as scored on the first cells of its key alone: on the smaller key of the same secret.

    As it is where the key has no more cells, and where nothing was measured or no test is exact.
    """
    if outcome.classes is None or not 0 < cells < len(outcome.query_hits) or outcome.p_value is None:
        return outcome
    return _rescored(outcome, outcome.query_hits[:cells], _evidence(outcome, "").first(cells))


def on_class_key(outcome: Outcome) -> Outcome:
    """A control's outcome as scored on the key of the same secret that has a cell for each class.

    As it is where nothing was measured on that key, as of a network with a watermark.
    """
    if outcome.classes is None or not outcome.class_score_ranks:
        return outcome
    return _rescored(outcome, outcome.class_query_hits, _evidence(outcome, "class_"))


def _evidence(outcome: Outcome, key: str) -> Evidence:
    assert outcome.classes is not None, "a finished trial knows its classes"
    told = (getattr(outcome, f"{key}{form}_ranks") for form in ("label", "score"))
    labels, scores = (RankSum.unpack(text, outcome.classes) for text in told)
    both = not key and outcome.second_score_ranks
    return Evidence(labels, scores, second=_evidence(outcome, "second_") if both else None)


def _rescored(outcome: Outcome, hits: str, evidence: Evidence) -> Outcome:
    assert outcome.classes is not None, "a finished trial knows its classes"
    unknown: dict[str, Any] = {
        "margin_mean": None,
        "margin_min": None,
        "query_digest": "",
        "log10_p_uncontrolled": None,
    }
    return replace(outcome, **unknown, **scored(hits, evidence, outcome.classes))
