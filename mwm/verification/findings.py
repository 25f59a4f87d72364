"""The figures of a verdict: of its key, and of what one suspect answered."""

from __future__ import annotations

from typing import Any

from mwm.stats.intervals import clopper_pearson
from mwm.verification.querying.answer_log import Answers, Labels, SuspectAnswers
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects.outputs import NO_ANSWER
from mwm.verification.verdict import KeySummary, TestResult
from mwm.watermarks.evidence import Evidence
from mwm.watermarks.key import Key, commitment


def ranked(evidence: Evidence, test: TestResult | None) -> dict[str, float | None]:
    """The p-values of labels and of scores, and how often scores rank the secret label first; None if not valid."""
    forms = {"labels": evidence.labels, "scores": evidence.scores}
    told = {name: ranks if test else None for name, ranks in forms.items()}
    found = {f"p_{name}": None if ranks is None else ranks.p_value for name, ranks in told.items()}
    found |= {f"log10_p_{name}": None if ranks is None else ranks.log10_p for name, ranks in told.items()}
    scores = told["scores"]
    return found | {"secret_first": None if scores is None else sum(cell.doubled == 0 for cell in scores)}


def counted(asked: OrderedQueries, log: SuspectAnswers, answers: Answers, *, choices: Labels) -> dict[str, Any]:
    """What one suspect answered to all that was asked, counted."""
    right, matches = (int((choices == values).sum()) for values in (asked.truth, asked.labels))
    count = len(choices)
    silent = len(log.silent.intersection(asked.numbers))
    outside = (answers.labels <= NO_ANSWER) | (answers.labels >= asked.classes)
    return {
        "matches": matches,
        "right": right,
        "match_rate": matches / count,
        "interval": clopper_pearson(matches, count),
        "asked": count,
        "images": len(asked),
        "unanswered": silent,
        "no_class": int(outside.sum()) - silent,
        "cells": tuple(asked.cells),
        "requests": log.requests,
        "seconds": round(log.seconds, 3),
        "began": log.began,
        "ended": log.ended,
    }


def key_summary(key: Key, *, committed: bool) -> KeySummary:
    """What may be said of a key; `committed` if it opens a commitment that was given."""
    return KeySummary(
        commitment=commitment(key),
        committed=committed,
        guessable=key.guessable,
        created=key.created,
        rule=key.rule,
        scheme=key.scheme,
        null=key.null,
        queries=len(key.queries),
        cells=key.queries.num_cells,
        classes=key.classes,
        class_names=key.class_names,
    )
