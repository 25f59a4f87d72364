"""How a sweep goes on under its name: by a journal of trials that have ended, and a store."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mwm.runner.execution.continuation import Continuation, continuation, foreseen
from mwm.runner.sweeps.sweep import EarlyStopping, Limits, Sweep
from mwm.runner.workspace.journal import SWEEP_FILE, Journal, read_journal
from mwm.storage.store import Store
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial, TrialInputs, trial_digest, victim_digest
from tests.helpers.records import SPACE, searching, swept
from tests.helpers.resumed import begun, ran
from tests.unit.runner.sweeps.test_trial_queue import SETS, outcome

SOFT, HARD = {"kind": "extraction"}, {"kind": "extraction", "labels": "hard"}
SEEDS = {"seed": {"grid": [0, 1]}}
DAMAGED = "name: 's' is another sweep in {}: sweep.json is of another release, or damaged; choose a new one by --name"


def goes_on(folder: Path, sweep: Sweep, sets: TrialInputs = SETS) -> Continuation:
    return continuation(sweep, folder, sets=sets, store=Store(folder / "store"))


def refused(folder: Path, sweep: Sweep, sets: TrialInputs = SETS) -> list[str]:
    """The lines of a refusal."""
    with pytest.raises(ValueError, match=r".") as caught:
        goes_on(folder, sweep, sets)
    assert foreseen(sweep, folder, sets=sets, store=Store(folder / "store")).endswith(str(caught.value))
    return str(caught.value).splitlines()


def test_a_new_name_begins(tmp_path: Path) -> None:
    sweep = swept(SEEDS)
    assert goes_on(tmp_path, sweep) == Continuation(config_digests=[sweep.config_digest])


@pytest.mark.parametrize("change", [{}, {"tags": {"x": "y"}}, {"limits": Limits(victims=1)}], ids=str)
def test_the_same_question_goes_on_without_a_word(change: dict[str, Any], tmp_path: Path) -> None:
    sweep = swept(SEEDS, [SOFT])
    ran(tmp_path, sweep, SETS)
    assert goes_on(tmp_path, replace(sweep, **change)) == Continuation(config_digests=[sweep.config_digest])


@pytest.mark.parametrize(
    ("victim", "attacks", "told"),
    [
        ({"seed": {"grid": [2, 0, 1]}}, [SOFT], "victim.seed.grid: [2, 0, 1]"),
        (SEEDS, [SOFT, HARD], "attacks: {'kind': 'extraction', 'labels': 'hard'}"),
        (
            SEEDS | {"scheme": {"grid": ["none", "trigger_set"]}},
            [SOFT],
            "victim.scheme.grid: ['none', 'trigger_set']",  # and so nothing is said of what stood in its place
        ),
    ],
    ids=["a seed", "an attack", "a scheme"],
)
def test_a_sweep_that_grows_says_so_in_one_line(victim: Any, attacks: Any, told: str, tmp_path: Path) -> None:
    before, now = swept(SEEDS, [SOFT]), swept(victim, attacks)
    ran(tmp_path, before, SETS)
    found = goes_on(tmp_path, now)
    assert found.told == f"the sweep has changed ({told}): 4 finished trials are reused"
    assert (found.dropped, found.config_digests) == ((), [before.config_digest, now.config_digest])


def test_what_a_sweep_asked_is_remembered_through_every_growth(tmp_path: Path) -> None:
    sweeps = [swept({"seed": {"grid": list(range(count))}}) for count in (1, 2, 3)]
    ran(tmp_path, sweeps[0], SETS)
    for sweep in sweeps[1:]:
        found = goes_on(tmp_path, sweep)
        ran(tmp_path, sweep, SETS, goes_on=found)
    assert found.config_digests == [sweep.config_digest for sweep in sweeps]
    assert goes_on(tmp_path, sweeps[2]).config_digests == found.config_digests


def test_a_measured_trial_that_would_go_is_refused_with_what_differs(tmp_path: Path) -> None:
    ran(tmp_path, swept(SEEDS, [SOFT]), SETS)
    gone = trial_digest(Trial(victim=swept({"seed": 0}).victim_specs[0]), SETS)
    assert refused(tmp_path, swept({"seed": {"grid": [1, 2]}}, [SOFT, HARD])) == [
        f"name: 's' is another sweep in {tmp_path}: 2 of its 4 finished trials would not be part of it any more, such "
        f"as none seed 0 ({gone}); choose a new one by --name; there (-) and here (+):",
        "+ attacks: {'kind': 'extraction', 'labels': 'hard'}",
        "- victim.seed.grid: [0, 1]",
        "+ victim.seed.grid: [1, 2]",
    ]


def test_an_attack_that_was_measured_stays(tmp_path: Path) -> None:
    ran(tmp_path, swept({}, [SOFT, HARD]), SETS)
    first, *differs = refused(tmp_path, swept({}, [SOFT]))
    assert "1 of its 3 finished trials would not be part of it any more, extraction hard seed 0 on none seed 0" in first
    assert differs == ["- attacks: {'kind': 'extraction', 'labels': 'hard'}"]


def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    ran(tmp_path, swept({}, [{"kind": "extraction", "seed": seed} for seed in range(30)]), SETS)
    lines = refused(tmp_path, swept({}))
    assert (len(lines), lines[-1]) == (22, "and 10 more lines")


def test_other_data_under_the_same_file_are_told(tmp_path: Path) -> None:
    sweep = swept(SEEDS)
    ran(tmp_path, sweep, SETS)
    key, held = next(iter(SETS.items()))
    (line,) = refused(tmp_path, sweep, TrialInputs({key: replace(held, digest="new")}))
    assert "2 of its 2 finished trials would not be part of it any more" in line
    assert "the file is the same, but something else has changed: the data, the code, the weights or the secret" in line


@pytest.mark.parametrize("status", ["failed", "skipped", ""], ids=["failed", "skipped", "under way"])
def test_what_measured_nothing_may_go(status: str, tmp_path: Path) -> None:
    def ends(trial: Trial) -> str:
        return status if trial.victim.seed else "done"

    ran(tmp_path, swept(SEEDS), SETS, ends=ends)
    (gone,) = (
        name for name, one in read_journal(tmp_path).trials.items() if (one.outcome or {}).get("status") != "done"
    )
    now = swept({"seed": {"grid": [0, 2]}})
    found = goes_on(tmp_path, now)
    assert found.dropped == (gone,)
    assert found.told.endswith(": 1 finished trial is reused, 1 that measured nothing is left out")
    ran(tmp_path, now, SETS, goes_on=found)
    assert gone not in read_journal(tmp_path).trials, "its row would stay in the table"
    assert len(read_journal(tmp_path).trials) == 2


def test_the_journal_of_who_goes_on_knows_nothing_of_what_was_dropped(tmp_path: Path) -> None:
    ran(tmp_path, swept(SEEDS), SETS, ends=lambda trial: "failed" if trial.victim.seed else "done")
    found = goes_on(tmp_path, swept({"seed": 0}))
    earlier = Journal(tmp_path, print, dropped=found.dropped).earlier
    assert [ended["status"] for _, ended in earlier] == ["done"]
    assert len(Journal(tmp_path, print).earlier) == 2


def test_what_was_finished_unheard_counts_as_measured(tmp_path: Path) -> None:
    ran(tmp_path, swept(SEEDS), SETS, ends=begun)
    trial = Trial(victim=swept({"seed": 1}).victim_specs[0])
    name = trial_digest(trial, SETS)
    known: Outcome = outcome(trial, True, 3)
    Store(tmp_path / "store").commit(name, asdict(known), [])
    (line, *_) = refused(tmp_path, swept({"seed": {"grid": [0]}}))
    assert f"1 of its 1 finished trial would not be part of it any more, none seed 1 ({name})" in line


def test_limits_do_not_decide_what_belongs_to_a_sweep(tmp_path: Path) -> None:
    sweep = swept({"seed": {"grid": [0, 1, 2]}})
    ran(tmp_path, replace(sweep, limits=Limits(victims=2)), SETS)
    assert len(read_journal(tmp_path).trials) == 2
    more = swept({"seed": {"grid": [3, 0, 1]}})
    assert goes_on(tmp_path, replace(more, limits=Limits(victims=1))).told.endswith("2 finished trials are reused")


def test_victims_that_were_ended_early_keep_the_rule(tmp_path: Path) -> None:
    early = replace(swept(SEEDS), early_stopping=EarlyStopping(grace_period=1))
    ran(tmp_path, early, SETS, ends=lambda trial: "stopped" if trial.victim.seed else "done")
    more = replace(swept({"seed": {"grid": [0, 1, 2]}}), early_stopping=early.early_stopping)
    assert goes_on(tmp_path, more).told.endswith("2 finished trials are reused")
    first, *differs = refused(tmp_path, replace(more, early_stopping=EarlyStopping(grace_period=2)))
    assert "early_stopping: is not allowed to change: 1 victim ended early by it" in first
    assert "- early_stopping.grace_period: 1" in differs


def test_a_rule_by_which_nobody_was_ended_may_change(tmp_path: Path) -> None:
    ran(tmp_path, swept(SEEDS), SETS)
    assert goes_on(tmp_path, replace(swept(SEEDS), early_stopping=EarlyStopping())).told


# Random points and Optuna


def test_random_points_grow_and_stay(tmp_path: Path) -> None:
    ran(tmp_path, swept(SPACE, kind="random", num_samples=4), SETS)
    more = goes_on(tmp_path, swept(SPACE, kind="random", num_samples=6))
    assert more.told == "the sweep has changed (search.num_samples: 6): 4 finished trials are reused"
    assert len(more.config_digests) == 1, "how many are drawn is no part of the question"
    assert goes_on(tmp_path, swept(SPACE, [SOFT], kind="random", num_samples=2)).dropped == ()
    assert (
        "finished trials would not be part of it"
        in refused(tmp_path, swept(SPACE, kind="random", num_samples=4, seed=1))[0]
    )


def test_a_search_by_optuna_grows_by_samples_and_attacks(tmp_path: Path) -> None:
    ran(tmp_path, searching(), SETS)
    assert goes_on(tmp_path, searching(num_samples=5)).told.endswith(": 6 finished trials are reused")
    grown = goes_on(tmp_path, searching(attacks=[SOFT, HARD]))
    assert grown.told.endswith("(attacks: {'kind': 'extraction', 'labels': 'hard'}): 6 finished trials are reused")
    assert (
        refused(tmp_path, searching(attacks=[HARD]))[0].count("3 of its 6 finished trials would not be part of it") == 1
    )


def test_a_search_by_optuna_keeps_its_space_and_its_kind(tmp_path: Path) -> None:
    ran(tmp_path, searching(), SETS)
    for other in (searching(seed=1), swept(SPACE, [SOFT], kind="random", num_samples=9)):
        assert (
            "search: is not allowed to change: Optuna goes on in the space of its study" in refused(tmp_path, other)[0]
        )


def test_a_grid_that_was_run_is_no_beginning_of_a_search(tmp_path: Path) -> None:
    ran(tmp_path, swept({}, [SOFT]), SETS)
    assert "search: is not allowed to change" in refused(tmp_path, searching())[0]


def test_another_kind_of_search_has_runs_of_its_own(tmp_path: Path) -> None:
    ran(tmp_path, swept(SEEDS), SETS, ends=begun)
    now = swept(SPACE, kind="random", num_samples=2)
    found = goes_on(tmp_path, now)
    assert found.config_digests == [now.config_digest]
    assert found.told.endswith("): 2 that measured nothing are left out")


@pytest.mark.parametrize("text", ["{", '{"name": "s", "victim": {}, "gone": 1}'], ids=["damaged", "another release"])
def test_a_sweep_that_cannot_be_read_any_more_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / SWEEP_FILE).write_text(text)
    assert refused(tmp_path, swept({})) == [DAMAGED.format(tmp_path)]


def test_trials_are_those_of_their_victims() -> None:
    """What the tests above rely on: the digest of a trial of a victim is the victim's own."""
    victim = swept({}).victim_specs[0]
    assert trial_digest(Trial(victim=victim), SETS) == victim_digest(victim, SETS)
