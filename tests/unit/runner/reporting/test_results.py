"""Results as rows: their order, what they tell, and what follows from several of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.config.spec import decode, digest, encode, flatten
from mwm.runner.reporting.csv_files import columns
from mwm.runner.reporting.results import late_metrics, result_rows, unwatermarked_twin
from mwm.trials.outcome import robustness
from mwm.trials.trial import Trial
from tests.helpers.ended import CONFUSION, HARD, MARGIN, NONE, SOFT, answers, failed, result, shown, trial, unmarked


def test_rows_put_each_attack_behind_its_victim_and_orphans_last() -> None:
    first, second = trial(MARGIN, 0), trial(MARGIN, 1)
    on_first, on_second = trial(MARGIN, 0, SOFT), trial(MARGIN, 1, HARD)
    orphan, late = trial(MARGIN, 2, SOFT), trial(MARGIN, 0, HARD)
    ended = [result(made) for made in (orphan, on_second, second, on_first, first, late)]
    expected = [second, on_second, first, on_first, late, orphan]
    assert [row["digest"] for row in result_rows(ended)] == [digest(made) for made in expected]


def test_a_row_tells_the_trial_and_what_it_measured() -> None:
    attack: dict[str, Any] = {
        "kind": "extraction",
        "labels": "hard",
        "source": "svhn",
        "student": "resnet18",
        "seed": 4,
    }
    attack |= {"recipe": {"epochs": 3}, "query_budget": 70}
    made = trial(MARGIN | {"queries_per_step": "all"}, 3, attack)
    ranks = {"label_ranks": "0 9:9", "score_ranks": "0 2", "class_query_hits": "01", "class_score_ranks": "0 2"}
    (row,) = result_rows([result(made, oracle_calls=77, peak_mib=412.5, device="cpu", **ranks)])
    told = {name: value for name, value in row.items() if value is not None}
    assert all(told.pop(name) for name in ("digest", "victim_digest", "mlflow_run_id"))
    assert decode(Trial, json.loads(told.pop("trial"))) == made
    leaves = flatten(encode(made))
    assert {name: told.pop(name) for name in leaves if name in told} == {
        k: v for k, v in leaves.items() if v is not None
    }
    assert told == {
        **{
            "kind": "attack",
            "cells": "images",
            "clean_acc": 0.95,
            "query_acc": 0.5,
            "log10_p": -5.0,
            "oracle_calls": 77,
            "seconds": 6.1,
        },
        **{"proven_1e3": True, "proven_1e6": False, "query_hits": "", "query_digest": "", "peak_mib": 412.5},
        **{"oracle_calls": 77, "device": "cpu", "status": "done", "error": "", "data_digest": "d" * 16},
        **{"threat.access": "black box", "threat.images": "svhn", "threat.true_labels": False},
        **{"threat.answers": "hard", "threat.start": "fresh"},
    }
    assert (row["victim.scheme.step_size"], row["attack.student.kind"]) == (10 / 255, "resnet18")


def test_columns_are_those_that_occur_each_behind_its_like() -> None:
    assert columns([{"a": 1, "c": 2}, {"a": 1, "b": 3, "c": 2}, {"d": 4, "a": 5}]) == ["d", "a", "b", "c"]
    tuned = {"kind": "fine_tuning", "layers": "last"}
    table = result_rows([result(trial(MARGIN)), result(trial(MARGIN, 0, SOFT)), result(trial(MARGIN, 0, tuned))])
    found = columns(table)
    assert len({*found}) == len(found)
    assert {name for row in table for name in row} == {*found}
    assert [name for name in found if name in table[0]] == [*table[0]]
    assert found.index("attack.layers") < found.index("status"), "an attack's field stands behind what was measured"


def test_a_control_is_one_network_with_a_row_for_each_key_that_it_is_compared_with() -> None:
    small, large, images, key = 4, 6, answers(0, cells=8), answers(4, cells=10, seed=1)
    told = unmarked(images, key)
    ended = [
        *(result(trial(NONE, 0), **told), result(trial(NONE, 0, SOFT), **told)),
        *(result(trial(MARGIN | {"num_queries": cells}, 0)) for cells in (large, small)),
        *(result(trial(CONFUSION, 0), **shown(*key)), result(trial(NONE, 1), **told)),
    ]
    table = result_rows(ended)
    rows = [row for row in table if row["victim.scheme.kind"] == "none"]
    keys = [(row["kind"], row["cells"], row.get("victim.scheme.num_queries"), len(row["query_hits"])) for row in rows]
    each = [("images", small, small), ("images", large, large), ("classes", None, 10)]
    assert keys == [
        *(("victim", *one) for one in each),
        *(("attack", *one) for one in each),
        ("victim", "images", None, 8),
    ]
    scores, labels, truth = images
    expected = [shown(scores[:cells], labels[:cells], truth[:cells]) for cells in (small, large)] + [shown(*key)]
    for row, right in zip(rows, expected * 2, strict=False):
        assert {name: row[name] for name in ("p_value", "log10_p", "query_acc", "mean_rank")} == {
            name: right[name] for name in ("p_value", "log10_p", "query_acc", "mean_rank")
        }
    assert [row["worst_log10_p"] for row in rows[:3]] == [right["log10_p"] for right in expected]
    assert late_metrics(rows[1])["key_6.log10_p"] == expected[1]["log10_p"]
    assert late_metrics(rows[2])["key_classes.query_acc"] == expected[2]["query_acc"]
    assert [row["cells"] for row in table if row["victim.scheme.kind"] == "confusion"] == ["classes"]


def test_a_control_is_not_scored_on_classes_where_no_scheme_has_such_a_key() -> None:
    told = unmarked(answers(0, cells=8), answers(4, cells=10))
    rows = result_rows([result(trial(NONE), **told), result(trial(MARGIN | {"num_queries": 4}))])
    assert [(row["cells"], row["query_hits"]) for row in rows[:1]] == [("images", "0000")]
    assert len(rows) == 2
    alone = result_rows([result(trial(NONE), **told), result(trial(CONFUSION), **told)])
    assert [(row["cells"], len(row["query_hits"])) for row in alone] == [("classes", 10), ("classes", 8)]


def test_clean_drop_is_taken_from_the_control_with_all_else_equal() -> None:
    ended = [
        result(trial(MARGIN, 0), clean_acc=0.90),
        result(trial(MARGIN, 1), clean_acc=0.80),
        result(trial(MARGIN, 0, SOFT), clean_acc=0.95),
        result(trial(MARGIN, 0, HARD), clean_acc=0.5),
        result(trial(MARGIN, 0, split={"seed": 9}), clean_acc=0.1),
        failed(trial(MARGIN | {"steps": 9}, 0)),
        result(trial(NONE, 0), clean_acc=0.99),
        result(trial(NONE, 1), clean_acc=0.98),
        result(trial(NONE, 0, SOFT), clean_acc=0.97),
        failed(trial(NONE, 0, HARD)),
    ]
    drops = {row["digest"]: row.get("clean_drop") for row in result_rows(ended)}
    found = [drops[one.outcome.digest] for one in ended]
    expected = [0.09, 0.18, 0.02, None, None, None, 0.0, 0.0, 0.0, None]
    assert found == [None if value is None else pytest.approx(value) for value in expected]


def test_control_key_forgets_the_scheme_and_nothing_else() -> None:
    key = unwatermarked_twin(trial(MARGIN, 0, SOFT))
    assert key == unwatermarked_twin(trial(NONE, 0, SOFT))
    others = [trial(NONE, 1, SOFT), trial(NONE, 0, HARD), trial(NONE), trial(NONE, 0, SOFT, data="cifar10")]
    assert key not in map(unwatermarked_twin, others)


accuracies = st.lists(st.tuples(st.floats(0, 1), st.floats(-300, 0)), min_size=1, max_size=6)


@given(accuracies, st.integers(0, 2))
def test_robustness_is_that_of_the_worst_and_unknown_if_one_failed(measured: list[Any], broken: int) -> None:
    done = [result(trial(MARGIN), query_acc=acc, log10_p=p).outcome for acc, p in measured]
    worst, total, proof = 1.0, 0.0, -math.inf
    for acc, p in measured:
        worst, total, proof = min(worst, acc), total + acc, max(proof, p)
    found = robustness([failed(trial(MARGIN)).outcome] * broken + done)
    right = {"worst_query_acc": worst, "mean_query_acc": pytest.approx(total / len(measured)), "worst_log10_p": proof}
    assert found == ({} if broken else right)


def test_robustness_of_nothing_is_nothing_and_goes_into_the_victims_row() -> None:
    assert robustness([]) == robustness([failed(trial(MARGIN)).outcome]) == {}
    students = [result(trial(MARGIN, 0, SOFT), query_acc=0.2), result(trial(MARGIN, 0, HARD), query_acc=0.6)]
    victim, *rest = result_rows([result(trial(MARGIN)), *students])
    assert (victim["worst_query_acc"], victim["mean_query_acc"], victim["worst_log10_p"]) == (0.2, 0.4, -5.0)
    assert {row.get("worst_query_acc") for row in rest} == {None}
