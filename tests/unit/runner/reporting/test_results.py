"""Results as rows: their order, what they tell, and what follows from several of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.config.spec import decode, digest
from mwm.runner.reporting.results import COLUMNS, TrialResult, result_rows, unwatermarked_twin
from mwm.stats.intervals import clopper_pearson
from mwm.trials.outcome import Outcome, robustness
from mwm.trials.trial import Trial
from tests.helpers.ended import HARD, MARGIN, NONE, SOFT, failed, result, trial


def test_rows_put_each_attack_behind_its_victim_and_orphans_last() -> None:
    first, second = trial(MARGIN, 0), trial(MARGIN, 1)
    on_first, on_second = trial(MARGIN, 0, SOFT), trial(MARGIN, 1, HARD)
    orphan, late = trial(MARGIN, 2, SOFT), trial(MARGIN, 0, HARD)
    ended = [result(made) for made in (orphan, on_second, second, on_first, first, late)]
    expected = [second, on_second, first, on_first, late, orphan]
    assert [row["digest"] for row in result_rows("s", ended)] == [digest(made) for made in expected]


def test_a_row_tells_the_trial_and_what_it_measured() -> None:
    attack: dict[str, Any] = {
        "kind": "extraction",
        "labels": "hard",
        "source": "svhn",
        "student": "resnet18",
        "seed": 4,
    }
    attack |= {"recipe": {"epochs": 3}, "budget": 70}
    (row,) = result_rows(
        "s",
        [result(trial(MARGIN | {"queries_per_step": "all"}, 3, attack), oracle_calls=77, peak_mib=412.5, device="cpu")],
    )
    told = {name: value for name, value in row.items() if value is not None}
    assert tuple(row) == COLUMNS
    assert all(told.pop(name) for name in ("digest", "victim_digest", "mlflow_run_id"))
    assert decode(Trial, json.loads(told.pop("trial"))).attack.seed == 4
    assert told == {
        **{"sweep": "s", "kind": "attack", "scheme": "margin", "model": "cnn", "num_queries": 20, "victim_seed": 3},
        **{"step_size": 10 / 255, "steps": 5, "weight": 0.1, "queries_per_step": "all", "batchnorm": "reference"},
        **{"attack": "extraction", "labels": "hard", "source": "svhn", "student": "resnet18", "attack_seed": 4},
        **{"clean_acc": 0.95, "query_acc": 0.5, "log10_p": -5.0, "oracle_calls": 77, "seconds": 6.1, "peak_mib": 412.5},
        **{"budget": 70, "owned_1e3": True, "owned_1e6": False},
        **{"checkpoint": "last", "device": "cpu", "status": "done", "error": ""},
        **{"data_digest": "d" * 16, "query_digest": ""},
    }


def test_what_follows_from_an_older_outcome_is_told_of_it_too() -> None:
    tree: dict[str, Any] = {"status": "done", "digest": "a", "victim_digest": "a", "data_digest": "d", "query_acc": 0.5}
    tree |= {"query_matches": 10, "p_value": 2.5e-5, "log10_p": -4.6, "seconds": 1.0, "error": ""}
    (row,) = result_rows("s", [TrialResult(trial(MARGIN), Outcome(**tree))])
    assert (row["owned_1e3"], row["owned_1e6"]) == (True, False)
    assert (row["query_low"], row["query_high"]) == clopper_pearson(10, 20)
    assert row["peak_mib"] is None


def test_clean_drop_is_taken_from_the_control_with_all_else_equal() -> None:
    ended = [
        result(trial(MARGIN, 0), clean_acc=0.90),
        result(trial(MARGIN, 1), clean_acc=0.80),
        result(trial(MARGIN, 0, SOFT), clean_acc=0.95),
        result(trial(MARGIN, 0, HARD), clean_acc=0.5),
        result(trial(MARGIN, 0, split={"seed": 9}), clean_acc=0.1),
        failed(trial(MARGIN | {"steps": 9}, 0)),
        result(trial(NONE, 0), clean_acc=0.99),
        result(trial(NONE | {"num_queries": 7}, 1), clean_acc=0.98),
        result(trial(NONE, 0, SOFT), clean_acc=0.97),
        failed(trial(NONE, 0, HARD)),
    ]
    drops = {row["digest"]: row["clean_drop"] for row in result_rows("s", ended)}
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
    victim, *rest = result_rows("s", [result(trial(MARGIN)), *students])
    assert (victim["worst_query_acc"], victim["mean_query_acc"], victim["worst_log10_p"]) == (0.2, 0.4, -5.0)
    assert {row["worst_query_acc"] for row in rest} == {None}
