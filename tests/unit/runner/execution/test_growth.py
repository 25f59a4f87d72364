"""Growth: four times the trials take no more than six times as long, in all that the driver does for each of them."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mwm.attacks import Extraction
from mwm.config.spec import decode
from mwm.runner.execution import results
from mwm.runner.reporting import export
from mwm.runner.reporting.results import TrialResult
from mwm.runner.reporting.tables.terminal import tables
from mwm.runner.sweeps.search import FixedSource
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.sweeps.validation import validate
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial
from tests.benchmarks.driving import npz, opened, sweep_of
from tests.benchmarks.simulating import Clock, gone_through, trained, tree
from tests.unit.runner.sweeps.test_trial_queue import SETS, outcome

pytestmark = pytest.mark.slow
TIMES, ALLOWED = 4, 6
"""A quadratic cost would be 16 times as much."""

ATTACKS = [Extraction(seed=seed) for seed in range(4)]


def took(work: Callable[[], object]) -> float:
    """CPU seconds of this thread, the least of two goes: what other processes do at the time hardly changes that."""

    def once() -> float:
        gc.collect()
        gc.disable()
        began = time.thread_time()
        try:
            work()
            return time.thread_time() - began
        finally:
            gc.enable()

    return min(once(), once())


def grid(victims: int) -> Sweep:
    """A sweep whose victims all differ in a setting: the worst that can happen to a table."""
    weights = [(number + 1) / (victims + 1) for number in range(victims)]
    scheme = {"kind": "trigger_set", "num_queries": 10, "weight": {"grid": weights}}
    victim = {"data": "digits", "model": "cnn", "scheme": scheme}
    made: Sweep = decode(Sweep, {"name": "growth", "victim": victim, "attacks": [{"kind": "extraction"}]})
    return made


def followed(victims: int) -> list[tuple[Trial, Outcome]]:
    """Everything that a plan hands out, each done at once."""
    plan, ended = TrialQueue(FixedSource(grid(victims)), ATTACKS, SETS), []
    while (item := plan.next()) is not None:
        ended.append((item[1], outcome(item[1], True, 3)))
        plan.finish(*item, ended[-1][1])
    assert len(ended) == plan.victims + plan.attacks == 5 * victims
    return ended


@pytest.mark.long
def test_a_plan_of_ten_thousand_trials_is_made_in_linear_time() -> None:
    followed(50)
    small, large = took(lambda: followed(500)), took(lambda: followed(500 * TIMES))
    assert large <= ALLOWED * small, f"{small:.2f} s for 500 victims, {large:.2f} s for 2000"
    assert large < 30


def test_reports_grow_with_the_number_of_results(tmp_path: Path) -> None:
    def reported(results: list[TrialResult]) -> None:
        export.write_results(tmp_path, "growth", results, seconds=1.0, complete=True)
        list(tables(results))

    small, large = ([TrialResult(*one) for one in followed(victims)] for victims in (40, 40 * TIMES))
    reported(small)
    before, after = took(lambda: reported(small)), took(lambda: reported(large))
    assert after <= ALLOWED * before, f"{before:.2f} s for {len(small)} results, {after:.2f} s for {len(large)}"


def test_results_are_saved_for_a_tenth_of_the_time_at_most(
    tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast trials end and however many there are: a save waits ten times as long as the one before took."""
    now, began, whole = 0.0, list[float](), export.write_results

    def later(seconds: float) -> float:
        nonlocal now
        now += seconds
        return now

    def written(*given: Any, **named: Any) -> None:
        began.append(later(2.0))
        whole(*given, **named)

    monkeypatch.setattr(results, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(results, "time", SimpleNamespace(monotonic=lambda: later(1.0)))
    monkeypatch.setattr(export, "write_results", written)
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    sweep = sweep_of(tree(npz(tmp_path / "data.npz"), 20))
    sets, _ = validate(sweep)
    model = trained(sweep, sets, tmp_path / "model")
    plan, driven = opened(sweep, tmp_path, sets)
    gone_through(plan, driven, model, Clock())
    saved = list(began)
    driven.close("FINISHED", complete=True)
    assert driven.results.count("done") == 100
    assert len(saved) == 3, "100 trials, a second each; a save takes 4, and the next one waits for 40"
    assert all(after - before >= 10 * 4.0 for before, after in pairwise(saved))
