"""Where victims come from: suggestions, and the budget that ends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.config.spec import decode, encode
from mwm.data.splits import SplitSizes
from mwm.runner.sweeps.search import FixedSource, LimitedSource, OptunaSource
from mwm.runner.sweeps.sweep import Limits, Sweep
from mwm.trials.outcome import Outcome, robustness
from mwm.trials.trial import TrialInputs, Victim
from mwm.watermarks.schemes import Margin
from tests.helpers.ended import answers, shown
from tests.helpers.records import DATA, SPACE, drawn, swept

# Chance


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=20)
def test_random_points_lie_inside_and_follow_from_the_seed(seed: int) -> None:
    victims = drawn(swept(SPACE, kind="random", num_samples=6, seed=seed))
    assert victims == drawn(swept(SPACE, kind="random", num_samples=6, seed=seed))
    assert victims[:3] == drawn(swept(SPACE, kind="random", num_samples=3, seed=seed))
    assert victims != drawn(swept(SPACE, kind="random", num_samples=6, seed=seed ^ 1))
    for victim in victims:
        assert 2 <= victim.recipe.epochs <= 4
        assert 0.1 <= victim.recipe.lr <= 0.3
        assert not isinstance(victim.scheme, Margin) or 1e-3 <= victim.scheme.step_size <= 0.1


def test_random_points_reach_everything() -> None:
    victims = drawn(swept(SPACE, kind="random", num_samples=60))
    assert {victim.recipe.epochs for victim in victims} == {2, 3, 4}
    assert {victim.scheme.kind for victim in victims} == {"none", "margin"}
    sizes = [victim.scheme.step_size for victim in victims if isinstance(victim.scheme, Margin)]
    assert 0.25 < sum(size < 1e-2 for size in sizes) / len(sizes) < 0.75, "half the decades lie below 0.01"


def test_random_points_are_crossed_with_grids() -> None:
    victims = drawn(swept(SPACE | {"seed": {"grid": [0, 1, 2]}}, kind="random", num_samples=2))
    assert [victim.seed for victim in victims] == [0, 1, 2] * 2
    assert len({victim.recipe.lr for victim in victims}) == 2


# Suggestions


def suggested(folder: Path, samples: int = 6, seed: int = 0) -> OptunaSource:
    """A search by Optuna whose study lies in `folder`."""
    source = OptunaSource(swept(SPACE, kind="optuna", num_samples=samples, seed=seed), folder)
    assert source.total == samples
    return source


def measures(victim: Victim) -> dict[str, float]:
    """Something to be large."""
    return {"clean_acc": victim.recipe.lr, "worst_query_acc": float(isinstance(victim.scheme, Margin)), "other": 0.0}


def states(source: OptunaSource) -> list[tuple[str, Any]]:
    """State and objectives of each point, as Optuna keeps them."""
    return [(trial.state.name, trial.values) for trial in source._study.trials]


def ask(source: OptunaSource) -> tuple[int, Victim]:
    """The next point, which must be there."""
    proposal = source.ask()
    assert proposal is not None
    return proposal


def test_a_study_knows_the_sizes_that_follow_from_the_data(tmp_path: Path, sets: TrialInputs) -> None:
    space = {"data": encode(DATA), "model": "cnn", "scheme": "none", "seed": {"integers": [0, 9]}}
    source = OptunaSource(swept(space, kind="optuna", num_samples=1), tmp_path, sets)
    _, victim = ask(source)
    assert victim.split == SplitSizes(validation=14, queries=14), "of 140 training images"
    kept = json.loads(source._study.trials[0].user_attrs["victim"])
    assert kept["split"] == {"validation": 14, "queries": 14}
    said = space | {"split": {"queries": 30, "seed": 3}}
    (tmp_path / "said").mkdir()
    _, victim = ask(OptunaSource(swept(said, kind="optuna", num_samples=1), tmp_path / "said", sets))
    assert victim.split == SplitSizes(validation=14, queries=30, seed=3)


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    first = suggested(tmp_path)
    points = [ask(first) for _ in range(4)]
    first.tell(0, measures(points[0][1]))
    first.tell(1, None)
    first.tell(2, {"clean_acc": 0.5})

    second = suggested(tmp_path)
    assert [ask(second) for _ in range(4)] == points
    for number, victim in points:
        second.tell(number, measures(victim))
    new = [ask(second) for _ in range(2)]
    assert [number for number, _ in new] == [4, 5]
    assert not any(victim in [known for _, known in points] for _, victim in new)
    assert second.ask() is None
    told = [list(measures(points[number][1]).values())[:2] for number in (0, 3)]
    known = [("COMPLETE", told[0]), ("FAIL", None), ("FAIL", None), ("COMPLETE", told[1])]
    assert states(second) == [*known, ("RUNNING", None), ("RUNNING", None)]

    third = suggested(tmp_path)
    assert [ask(third) for _ in range(6)] == [*points, *new]
    assert third.ask() is None
    assert len(states(third)) == 6


def test_a_search_learns_without_a_warning_and_repeats_itself(tmp_path: Path) -> None:
    found: dict[int, list[Victim]] = {}
    for samples in (12, 4):  # Optuna learns from the eleventh point on
        folder = tmp_path / str(samples)
        folder.mkdir()
        source = suggested(folder, samples, seed=3)
        victims = found.setdefault(samples, [])
        while (proposal := source.ask()) is not None:
            source.tell(proposal[0], measures(proposal[1]))
            victims.append(proposal[1])
    assert len(found[12]) == 12
    assert found[12][:4] == found[4]
    assert {victim.scheme.kind for victim in found[12]} == {"none", "margin"}
    assert all(2 <= victim.recipe.epochs <= 4 and 0.1 <= victim.recipe.lr <= 0.3 for victim in found[12])


def test_a_small_log_p_is_good(tmp_path: Path) -> None:
    objectives = ["worst_log10_p", "clean_acc"]
    source = OptunaSource(swept(SPACE, kind="optuna", num_samples=1, objectives=objectives), tmp_path)
    assert [direction.name for direction in source._study.directions] == ["MINIMIZE", "MAXIMIZE"]


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether one is no worse in accuracy (large) and in log10 p (small), and not the same."""
    return one != other and one[0] >= other[0] and one[1] <= other[1]


def test_a_search_for_accuracy_and_proof_is_told_of_what_no_label_shows(tmp_path: Path) -> None:
    """No student gives a secret label: by matches all victims would be alike, by the test that decides they are not."""
    space = {"scheme": {"kind": "margin", "step_size": {"uniform": [0.001, 0.1]}}, "recipe": SPACE["recipe"]}
    objectives = ["clean_acc", "worst_log10_p"]
    source = OptunaSource(swept(space, kind="optuna", num_samples=8, objectives=objectives), tmp_path)
    told: dict[int, tuple[float, float]] = {}
    while (proposal := source.ask()) is not None:
        number, victim = proposal
        assert isinstance(victim.scheme, Margin)
        hints = 60 * victim.scheme.step_size, 30 * victim.scheme.step_size
        students = [shown(*answers(hint, ahead=20.0, seed=10 * number)) for hint in hints]
        blank: Any = {"status": "done", "digest": "", "victim_digest": "", "data_digest": ""}
        left = robustness([Outcome(**blank, **one) for one in students])
        assert left["worst_query_acc"] == 0
        assert left["worst_log10_p"] == max(one["log10_p"] for one in students)
        source.tell(number, {"clean_acc": victim.recipe.lr, "query_acc": 1.0} | left)
        told[number] = victim.recipe.lr, left["worst_log10_p"]
    proofs = [proof for _, proof in told.values()]
    assert min(proofs) < -6 < -1 < max(proofs)
    front = {number for number, one in told.items() if not any(dominates(other, one) for other in told.values())}
    assert {trial.number for trial in source._study.best_trials} == front
    assert 1 <= len(front) < 8


CHOSEN = 16
"""How many of the last points of a search are looked at: Optuna chooses from the eleventh on."""


def steps_of_a_search(folder: Path, tell: Callable[[float], dict[str, float]], samples: int = 32) -> list[float]:
    """The step sizes that a search for accuracy and proof has tried, each of which measures what `tell` says."""
    space = {"scheme": {"kind": "margin", "step_size": {"uniform": [0.0, 0.1]}}}
    objectives = ["clean_acc", "worst_log10_p"]
    folder.mkdir()
    source = OptunaSource(swept(space, kind="optuna", num_samples=samples, objectives=objectives), folder)
    tried = []
    while (proposal := source.ask()) is not None:
        number, victim = proposal
        assert isinstance(victim.scheme, Margin)
        tried.append(victim.scheme.step_size)
        source.tell(number, tell(victim.scheme.step_size))
    front = [trial.params["victim.scheme.step_size"] for trial in source._study.best_trials]
    assert front
    assert all(step < 0.05 for step in front) or "marked" not in tell(0.1)
    return tried


def test_a_search_moves_away_from_victims_without_a_watermark(tmp_path: Path) -> None:
    """The less of a watermark a victim has, the more accurate it is: by accuracy alone a search would go there."""

    def as_it_is(step: float) -> dict[str, float]:
        proof = -60 * (0.1 - step)  # at .05 and below a proof
        own = {"clean_acc": step, "query_acc": 0.5}
        return own | ({"worst_log10_p": proof} if proof <= -3 else {"marked": False, "log10_p": proof})

    def as_if_marked(step: float) -> dict[str, float]:
        return {"clean_acc": step, "query_acc": 0.5, "worst_log10_p": 0.0 if step > 0.05 else -60 * (0.1 - step)}

    told = steps_of_a_search(tmp_path / "told", as_it_is)
    untold = steps_of_a_search(tmp_path / "untold", as_if_marked)
    assert sum(step > 0.05 for step in told[:10]) == sum(step > 0.05 for step in untold[:10]) >= 3
    lost, lost_untold = (sum(step > 0.05 for step in tried[-CHOSEN:]) for tried in (told, untold))
    assert lost <= CHOSEN // 4 < lost_untold


def test_a_search_without_any_watermark_prefers_what_lacks_least(tmp_path: Path) -> None:
    source = OptunaSource(swept(SPACE, kind="optuna", num_samples=3), tmp_path)
    for lacking in (-2.9, -0.5, -3.0):
        number, _ = ask(source)
        source.tell(number, {"clean_acc": 0.9, "query_acc": 0.0, "marked": False, "log10_p": lacking})
    trials = source._study.trials
    assert [trial.values for trial in trials] == [[0.9, 0.0]] * 3, "what attacks leave of nothing"
    violated = [trial.constraints["unmarked"] for trial in trials]
    assert violated == pytest.approx([0.1, 2.5, 0.0], abs=1e-6)
    assert min(violated) > 0, "one that misses the level by nothing was taken for marked"
    assert source._study.best_trials == []


def test_who_was_told_to_lack_a_watermark_before_the_driver_died_is_told_again(tmp_path: Path) -> None:
    first = suggested(tmp_path)
    number, victim = ask(first)
    lacking = measures(victim) | {"marked": 0.0, "log10_p": -1.0}
    first._constrain(number, 2.0)
    second = suggested(tmp_path)
    assert ask(second) == (number, victim)
    second.tell(number, lacking)
    (trial,) = second._study.trials
    assert (trial.state.name, trial.constraints) == ("COMPLETE", {"unmarked": 2.0})


# Budgets


def bounded(
    victims: int | None = None, hours: float | None = None, clock: Callable[[], float] = lambda: 0.0
) -> LimitedSource:
    source = FixedSource(swept(SPACE | {"seed": {"grid": [0, 1, 2, 3]}}, kind="random", num_samples=2))
    return LimitedSource(source, Limits(victims=victims, hours=hours), clock)


def asked(source: LimitedSource) -> int:
    count = 0
    while source.ask() is not None:
        count += 1
    return count


@pytest.mark.parametrize(("victims", "count"), [(None, 8), (3, 3), (100, 8)])
def test_a_budget_of_victims_ends_the_list(victims: int | None, count: int) -> None:
    source = bounded(victims)
    assert source.total == asked(source) == count
    assert not source.spent


def test_no_victim_is_begun_when_the_time_is_over() -> None:
    now = [0.0]
    source = bounded(hours=0.5, clock=lambda: now[0])
    assert source.ask() is not None
    now[0] = 1799.0
    assert source.ask() is not None
    now[0] = 1800.0
    assert source.ask() is None
    assert (source.total, source.spent) == (2, True)
    now[0] = 0.0
    assert source.ask() is None, "a spent budget came back"


def test_time_that_ends_with_the_list_is_not_spent() -> None:
    now = [0.0]
    source = bounded(hours=1, clock=lambda: now[0])
    assert asked(source) == 8
    now[0] = 1e6
    assert source.ask() is None
    assert not source.spent


def test_more_samples_ask_the_same_question() -> None:
    base = swept(SPACE, kind="random", num_samples=2)
    assert swept(SPACE, kind="random", num_samples=9).config_digest == base.config_digest
    assert swept(SPACE, kind="random", num_samples=2, seed=1).config_digest != base.config_digest


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"early_stopping": {"stage": "attack"}}, "early_stopping.stage: attack is not allowed: an attack that is cut"),
        ({"attacks": [{"kind": "extraction", "early_stopping": {}}]}, "attacks.0.early_stopping: is not allowed"),
        ({"limits": {"hours": 0}}, "limits.hours: 0"),
        ({"limits": {"victims": 0}}, "limits.victims: 0"),
        ({"early_stopping": {"reduction_factor": 1}}, "early_stopping.reduction_factor: 1"),
    ],
)
def test_a_wrong_bound_is_refused_with_its_reason(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        _ = decode(Sweep, {"name": "mine", "victim": {}} | change).attack_specs
