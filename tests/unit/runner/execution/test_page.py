"""What a sweep says on MLflow's page: which parameters are columns, what only all trials tell, and the description."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient

from mwm.config.spec import decode
from mwm.runner.execution.page import (
    begin_page,
    finish_page,
    late_measures,
    summary_metrics,
    varied_parameters,
)
from mwm.runner.reporting.results import result_rows
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.views import NOTE, Varied
from tests.helpers.ended import HARD, MARGIN, NONE, SOFT, control, failed, result, stolen, trial
from tests.helpers.launching import SWEEP

WIDE = MARGIN | {"step_size": 0.1}
ROWS = result_rows(
    [
        *(control(), control(0, SOFT), control(0, HARD)),
        *(result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5, clean_acc=0.9), stolen(MARGIN, 0, HARD, 0.25)),
        *(result(trial(WIDE), clean_acc=0.94), stolen(WIDE, 0, SOFT, 0.75), stolen(WIDE, 0, HARD, 0.5)),
    ]
)


def asked(**more: Any) -> Sweep:
    found: Sweep = decode(Sweep, SWEEP | more)
    return found


def sweep_tags(sweep: Sweep) -> dict[str, str]:
    """By which the run of a sweep is known."""
    return {"kind": "sweep", "mwm.sweep": sweep.name, "mwm.config_digest": sweep.config_digest}


def of(scheme: dict[str, Any], attack: dict[str, Any] | None = None) -> str:
    return result(trial(scheme, 0, attack)).outcome.digest


@pytest.fixture
def experiment(uri: str) -> MlflowExperiment:
    return MlflowExperiment(uri, "small")


def test_columns_are_what_varies_the_scheme_first() -> None:
    grid = [{"kind": "none"}, {"kind": "margin", "num_queries": 10, "step_size": {"grid": [0.01, 0.02]}}]
    victim = SWEEP["victim"] | {"scheme": {"grid": grid}, "seed": {"grid": [0, 1]}}
    assert varied_parameters(asked(victim=victim)) == Varied(
        ["victim.scheme.kind", "victim.scheme.step_size", "victim.seed"],
        ["attack.labels"],
        ["victim.scheme.step_size", "victim.seed"],
        ["threat.answers"],
    )


def test_a_sweep_without_attacks_says_so() -> None:
    assert varied_parameters(asked(attacks=[])) == Varied(["victim.scheme.kind"], [], [], [], attacked=False)


def test_accuracies_are_told_in_points_against_control_and_victim() -> None:
    found = late_measures(ROWS, {})
    assert found[of(MARGIN)] == {
        **{"clean_drop": pytest.approx(0.03), "accuracy_cost": 3.0},
        **{"worst_query_acc": 0.25, "mean_query_acc": 0.375, "worst_log10_p": -7.5},
    }
    attack = found[of(MARGIN, SOFT)]
    assert (attack["accuracy_cost"], attack["accuracy_drop"]) == (3.0, 5.0)
    assert found[of(NONE)]["key_20.query_acc"] >= 0
    assert "worst_log10_p" not in found[of(NONE)], "a control is scored on several keys"


def test_nothing_is_told_of_a_victim_that_failed_or_is_missing() -> None:
    rows = result_rows([failed(trial(MARGIN)), stolen(WIDE, 0, SOFT, 0.5)])
    assert late_measures(rows, {}) == {}
    assert late_measures(rows, {"a": 1.0}) == {"a": {"on_front": 1.0}}


def test_the_summary_counts_trials_once_and_means_over_seeds() -> None:
    more = result_rows([result(trial(MARGIN, 1)), stolen(MARGIN, 1, SOFT, 0.1), failed(trial(WIDE, 1))])
    found = summary_metrics([*ROWS, *more])
    assert (found["victims_done"], found["attacks_done"], found["victims_failed"]) == (4, 7, 1)
    assert found["best_worst_neg_log10_p"] == pytest.approx(15)


def test_the_page_is_written_once(experiment: MlflowExperiment, uri: str) -> None:
    sweep = asked(description="which `step`?")
    run, other = (experiment.create("small", sweep_tags(one)) for one in (sweep, asked(attacks=[])))
    for _ in range(2):
        begin_page(experiment, sweep)
        finish_page(experiment, sweep, ROWS, search={})
    text = experiment.tags()[NOTE]
    assert "**Question.** which `step`?" in text
    assert "| margin 0.1 | 4.0 | **5.0** | **15.0** | extraction hard |" in text
    client = MlflowClient(uri)
    assert client.get_run(run).data.tags[NOTE] == text
    assert len(client.get_metric_history(run, "victims_done")) == 1
    earlier = client.get_run(other).data
    assert (NOTE in earlier.tags, earlier.metrics) == (False, {}), "it asked something else"


def test_in_a_shared_experiment_the_description_stands_at_the_run_alone(uri: str) -> None:
    shared = MlflowExperiment(uri, "shared")
    run = shared.create("small", sweep_tags(asked()))
    finish_page(shared, asked(), ROWS, search={})
    assert NOTE not in shared.tags()
    assert NOTE in MlflowClient(uri).get_run(run).data.tags


def test_a_description_of_very_many_settings_fits_into_a_tag(experiment: MlflowExperiment) -> None:
    schemes = [MARGIN | {"step_size": index / 1000} for index in range(1, 200)]
    ended = [one for scheme in schemes for one in (result(trial(scheme)), stolen(scheme, 0, SOFT, 0.5))]
    finish_page(experiment, asked(description="x" * 500), result_rows(ended), search={})
    text = experiment.tags()[NOTE]
    assert 4500 < len(text) <= 5000
    assert "More settings are in the report." in text
