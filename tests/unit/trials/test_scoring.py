"""What an outcome says of answers to a key, held against the test in whole numbers; and of parts of the key."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.stats import binomial
from mwm.trials.outcome import LEVELS, Outcome, robustness
from mwm.trials.scoring import UNTESTED, on_class_key, on_smaller_key
from tests.helpers.ended import answers, shown, unmarked
from tests.helpers.ranking import exact_p_value, one_hot

BLANK: dict[str, Any] = {"status": "done", "digest": "a", "victim_digest": "b", "data_digest": "c"}
MEASURED: dict[str, Any] = {
    "clean_acc": 0.9,
    "margin_mean": 0.5,
    "margin_min": -0.5,
    "query_digest": "q",
    "seconds": 3.0,
}
KEYS: dict[str, Any] = {
    "hint": st.floats(0, 8),
    "cells": st.integers(1, 7),
    "classes": st.integers(3, 6),
    "ahead": st.sampled_from([0.0, 2.0, 6.0]),
    "seed": st.integers(0, 10**6),
}


@given(**KEYS)
@settings(deadline=None)
def test_p_values_are_those_in_whole_numbers(**key: Any) -> None:
    scores, labels, truth = answers(**key)
    told, first = shown(scores, labels, truth), scores.argmax(1)
    by_labels = exact_p_value(one_hot(first.tolist(), key["classes"]), labels.tolist(), truth.tolist())
    by_scores = exact_p_value(scores.tolist(), labels.tolist(), truth.tolist())
    assert told["p_labels"] == pytest.approx(float(by_labels))
    assert told["p_scores"] == pytest.approx(float(by_scores))
    decided = min(1.0, 2 * float(min(by_labels, by_scores)))
    assert told["p_value"] == pytest.approx(decided)
    for form, p in (("", decided), ("_labels", float(by_labels)), ("_scores", float(by_scores))):
        assert told[f"log10_p{form}"] == pytest.approx(np.log10(p), abs=1e-9)
    assert {name: told[name] for name in LEVELS} == {name: told["p_value"] <= level for name, level in LEVELS.items()}
    assert told["wrong_answers"] == int((first != truth).sum())


@given(**KEYS)
@settings(deadline=None)
def test_the_figures_of_the_literature_count_matches_among_all_cells(**key: Any) -> None:
    scores, labels, truth = answers(**key)
    told, matches = shown(scores, labels, truth), int((scores.argmax(1) == labels).sum())
    assert (told["query_matches"], told["query_acc"]) == (matches, matches / key["cells"])
    assert told["query_hits"] == "".join(str(int(hit)) for hit in scores.argmax(1) == labels)
    assert told["query_low"] <= told["query_acc"] <= told["query_high"]
    assert told["p_unconditional"] == binomial.p_value(matches, key["cells"], key["classes"])
    assert told["p_labels"] <= told["p_unconditional"] * (1 + 1e-9), "to condition on the wrong answers costs nothing"


@given(few=st.integers(1, 7), **KEYS)
@settings(deadline=None)
def test_a_smaller_key_is_scored_as_if_it_were_all(few: int, **key: Any) -> None:
    scores, labels, truth = answers(**key)
    outcome = Outcome(**BLANK, **MEASURED, **shown(scores, labels, truth))
    smaller = on_smaller_key(outcome, few)
    if few >= key["cells"]:
        assert smaller == outcome
        return
    alone = Outcome(**BLANK, clean_acc=0.9, seconds=3.0, **shown(scores[:few], labels[:few], truth[:few]))
    assert smaller == alone, "margins and the digest are of the whole key"


def test_a_control_is_scored_on_classes_as_if_that_were_its_key() -> None:
    images, key = answers(0, cells=30, seed=3), answers(3, cells=10, seed=4)
    outcome = Outcome(**BLANK, **MEASURED, **unmarked(images, key))
    found = on_class_key(outcome)
    told = {name: value for name, value in asdict(found).items() if not name.startswith("class_")}
    expected = asdict(Outcome(**BLANK, clean_acc=0.9, seconds=3.0, **shown(*key)))
    assert told == {name: value for name, value in expected.items() if name in told}
    assert found.p_value != outcome.p_value
    assert (found.class_query_hits, len(found.query_hits)) == (outcome.class_query_hits, 10)


def test_what_was_not_measured_stays_as_it_is() -> None:
    marked = Outcome(**BLANK, **shown(*answers(3)))
    untested = Outcome(**BLANK, **shown(*answers(3)) | UNTESTED)
    failed = Outcome(**BLANK | {"status": "failed"}, error="the loss is nan")
    assert on_class_key(marked) == marked
    for outcome in (untested, failed):
        assert on_smaller_key(outcome, 5) == outcome
        assert on_class_key(outcome) == outcome
    assert untested.query_acc is not None, "matches can be counted where no test is exact"
    assert (untested.p_value, untested.log10_p_labels, untested.p_unconditional, untested.proven_1e6) == (None,) * 4


def test_what_is_left_of_a_watermark_is_by_the_test_that_decides() -> None:
    """Two students that answer no query by its secret label: their scores tell them apart."""
    kept, lost = (Outcome(**BLANK, **shown(*answers(hint, cells=40, ahead=9.0))) for hint in (3.0, 0.0))
    assert (kept.query_matches, lost.query_matches) == (0, 0)
    assert kept.log10_p is not None
    assert kept.log10_p < -6
    assert robustness([kept])["worst_log10_p"] == kept.log10_p
    assert robustness([kept, lost])["worst_log10_p"] == lost.log10_p
    assert "worst_log10_p" not in robustness([kept, replace(lost, log10_p=None)])
