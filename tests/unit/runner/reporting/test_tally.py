"""What the events of a sweep come to: counts, the best victim, the time that is left."""

from __future__ import annotations

from typing import Any

import pytest

from mwm.runner.reporting.tally import Tally, estimate_remaining
from tests.helpers.events import begin, cached, epochs, finish, measures, start


class Clock:
    """Seconds that pass only when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(clock)


def tell(tally: Tally, *events: dict[str, Any]) -> None:
    for event in events:
        tally.follow(event)


def test_time_left_shares_the_work_among_the_slots() -> None:
    seconds = {"victim": 10.0, "attack": 4.0}
    left = estimate_remaining({"victim": 2, "attack": 5}, [("victim", 4.0), ("attack", 9.0)], seconds=seconds, slots=2)
    assert left == (6 + 20 + 20) / 2
    assert estimate_remaining({"victim": 0, "attack": 0}, [("victim", 1.0)], seconds=seconds, slots=8) == 9.0
    assert estimate_remaining({"victim": 0, "attack": 0}, [], seconds={}, slots=0) == 0.0


@pytest.mark.parametrize(
    ("waiting", "seconds", "slots"),
    [
        ({"victim": 1, "attack": None}, {"victim": 1.0, "attack": 1.0}, 1),
        ({"victim": 0, "attack": 3}, {"victim": 1.0}, 1),
        ({"victim": 1, "attack": 0}, {"victim": 1.0}, 0),
    ],
)
def test_time_left_is_not_guessed(waiting: dict[str, int | None], seconds: dict[str, float], slots: int) -> None:
    assert estimate_remaining(waiting, [], seconds=seconds, slots=slots) is None


def test_nothing_is_said_of_the_time_before_the_first_epochs(tally: Tally, clock: Clock) -> None:
    tell(tally, begin(victim=4, attack=0, slots=2), start("a"), start("b"))
    clock.now += 30
    assert tally.left() is None
    # One has done 3 of 10 epochs in 30 s, the last in 5 s, the other none: a trial takes 30 + 7 * 5 s.
    tell(tally, epochs("a", 3, seconds=5.0))
    assert tally.left() == (35 + 35 + 2 * 65) / 2


def test_attacks_that_have_not_begun_take_as_long_for_an_epoch_as_victims(tally: Tally, clock: Clock) -> None:
    tell(tally, begin(victim=1, attack=2, slots=1, epochs={"victim": 10, "attack": 30}), start("a"))
    clock.now += 10
    tell(tally, epochs("a", 5, seconds=2.0))
    assert tally.left() == 10 + 2 * 60
    tell(tally, finish("a"), start("b", kind="attack"))
    clock.now += 8
    tell(tally, epochs("b", 2, seconds=4.0))  # 8 s for 2 of 10 epochs
    assert tally.left() == 32 + 40


def test_trials_that_were_run_tell_more_than_their_epochs(tally: Tally, clock: Clock) -> None:
    tell(tally, begin(victim=5, slots=2), start("a"), start("b"))
    clock.now += 30
    tell(tally, epochs("a", 10), finish("a"), start("c"))
    # Two at once: b has had its 30 s, c and two that wait need 30 s each.
    assert tally.left() == (0 + 30 + 60) / 2


def test_what_was_found_finished_says_how_long_it_took(tally: Tally, clock: Clock) -> None:
    tell(tally, begin(victim=3, slots=1), start("a"), finish("a", cached=True, seconds=20.0), cached("b", seconds=40.0))
    assert tally.waiting("victim") == 1
    assert tally.left() == 30.0
    tell(tally, start("c"))
    clock.now += 7
    tell(tally, epochs("c", 10), finish("c"))
    assert tally.left() == 0.0


def test_trials_are_counted_by_how_they_ended(tally: Tally) -> None:
    tell(
        tally,
        begin(victim=4, attack=30),
        *(start(name) for name in "abc"),
        finish("a"),
        finish("b", status="failed"),
        start("z", kind="attack"),
        finish("z", kind="attack", status="skipped"),
    )
    assert (tally.ended["victim", "done"], tally.ended["victim", "failed"], tally.ended["attack", "skipped"]) == (
        1,
        1,
        1,
    )
    assert (tally.under_way("victim"), tally.waiting("victim"), tally.waiting("attack")) == (1, 1, 29)
    tell(tally, {"event": "totals", "victim": 3, "attack": None})
    assert (tally.waiting("victim"), tally.waiting("attack")) == (0, None)


def test_a_trial_that_is_retried_is_one_trial(tally: Tally, clock: Clock) -> None:
    tell(tally, begin(victim=1), start("a"), epochs("a", 4))
    clock.now += 5
    tell(tally, start("a"))
    assert (tally.under_way("victim"), tally.running["a"].epoch, tally.running["a"].began) == (1, 0, clock.now)


def test_the_best_victim_keeps_most_after_the_worst_of_its_attacks(tally: Tally) -> None:
    tell(tally, measures("weak", worst_log10_p=-0.2, worst_query_acc=0.9))
    assert tally.best == "weak, clean .950; hard leaves -log10 p 0.2, query .90"
    tell(tally, measures("strong", worst_log10_p=-9.31, worst_query_acc=0.05))
    tell(tally, measures("middle", worst_log10_p=-4.0, worst_query_acc=0.5))
    assert tally.best == "strong, clean .950; hard leaves -log10 p 9.3, query .05"


def test_without_an_exact_test_answers_decide(tally: Tally) -> None:
    tell(tally, measures("less", worst_query_acc=0.2), measures("more", worst_query_acc=0.3))
    tell(tally, measures("least", worst_query_acc=0.1))
    assert tally.best == "more, clean .950; hard leaves query .30"
