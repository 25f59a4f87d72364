"""The plan: every trial is handed out once and in time, whatever the order in which trials end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.attacks import Attack, Extraction
from mwm.attacks.sources import Disjoint
from mwm.config.spec import decode, encode
from mwm.data.datasets import Dataset, Digits
from mwm.data.splits import SplitSizes
from mwm.models.networks import Cnn
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.trials.names import attack_name
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key, trial_digest, victim_digest

PLAIN = {"data": "digits", "model": "cnn", "scheme": "none"}
BLACK = np.zeros((1437, 1, 8, 8), np.uint8), np.zeros(1437, np.int64)
SETS = TrialInputs({data_key(Digits()): Dataset(*BLACK, *BLACK, classes=10, digest="digits")})
POOL = [decode(Victim, PLAIN | {"seed": seed}) for seed in range(4)]
ATTACKS: list[Attack] = [
    Extraction(),
    Extraction(student=Cnn()),  # the same as the first, once the victim's network is filled in
    Extraction(labels="hard"),
    Extraction(source=Disjoint()),
]


def test_trials_have_the_sizes_that_follow_from_the_data() -> None:
    images = np.zeros((60, 1, 8, 8), np.uint8), np.arange(60) % 10
    sets = TrialInputs({data_key(Digits()): Dataset(*images, *images, classes=10, digest="digits")})
    queue = TrialQueue(Given([POOL[0]]), ATTACKS[:1], sets)
    name, trial = queue.next() or ("", Trial(victim=POOL[0]))
    assert (name, trial.victim.split) == (victim_digest(POOL[0], sets), SplitSizes(validation=6, queries=6))
    queue.finish(name, trial, Outcome(status="done", digest=name, victim_digest=name, data_digest="digits"))
    _, theft = queue.next() or ("", trial)
    assert theft.attack is not None
    assert theft.victim == trial.victim


class Given:
    """Victims in a given order, and what was told of each."""

    def __init__(self, victims: Sequence[Victim]) -> None:
        self.victims, self.total, self.asked = victims, len(victims), 0
        self.told: dict[int, dict[str, float] | None] = {}

    def ask(self) -> tuple[int, Victim] | None:
        if self.asked == self.total:
            return None
        self.asked += 1
        return self.asked - 1, self.victims[self.asked - 1]

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        assert number not in self.told, f"{number} was told twice"
        assert number < self.asked, f"{number} was told before it was asked"
        self.told[number] = measures


def outcome(trial: Trial, done: bool, chance: int, marked: bool | None = None) -> Outcome:
    """What may come of a trial."""
    name = trial_digest(trial, SETS)
    blank: dict[str, Any] = {
        "digest": name,
        "victim_digest": victim_digest(trial.victim, SETS),
        "data_digest": "digits",
    }
    if not done:
        return Outcome(status="failed", **blank)
    shares: dict[str, Any] = {"clean_acc": chance / 10, "query_acc": chance / 20, "log10_p": -float(chance)}
    return Outcome(status="done", marked=marked, **blank, **shares)


def expected(victim: Outcome, students: Sequence[Outcome]) -> dict[str, float] | None:
    """What is to be told of a victim when all is over."""
    if victim.status != "done":
        return None
    told: dict[str, Any] = {"clean_acc": victim.clean_acc, "query_acc": victim.query_acc}
    if victim.marked is False:
        told |= {"marked": False, "log10_p": victim.log10_p}
    kept = [(one.query_acc, one.log10_p) for one in students if one.query_acc is not None and one.log10_p is not None]
    if kept and len(kept) == len(students):
        queries, chances = [query for query, _ in kept], [chance for _, chance in kept]
        mean = sum(queries) / len(queries)
        told |= {"worst_query_acc": min(queries), "mean_query_acc": mean, "worst_log10_p": max(chances)}
    return told


@given(
    st.lists(st.sampled_from(POOL), max_size=6),
    st.lists(st.sampled_from(ATTACKS), max_size=4, unique_by=id),
    st.booleans(),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_every_order_of_events_comes_to_the_same_end(
    victims: Any, attacks: Any, attack_unmarked: bool, data: st.DataObject
) -> None:
    source = Given(victims)
    plan = TrialQueue(source, attacks, SETS, attack_unmarked=attack_unmarked)
    running: list[tuple[str, Trial]] = []
    begun: list[str] = []
    returned: list[str] = []
    ended: dict[str, tuple[Trial, Outcome]] = {}
    while True:
        assert plan.open == len(running)
        item = plan.next() if not running or data.draw(st.booleans()) else None
        if item is not None:
            name, trial = item
            assert name == trial_digest(trial, SETS)
            above = victim_digest(trial.victim, SETS)
            assert trial.attack is None or ended[above][1].status == "done", "an attack before its victim"
            begun.append(name)
            running.append(item)
        elif running:
            name, trial = running.pop(data.draw(st.integers(0, len(running) - 1)))
            marked = data.draw(st.sampled_from([True, False, None])) if trial.attack is None else None
            came = outcome(trial, data.draw(st.booleans()), data.draw(st.integers(0, 10)), marked)
            ended[name] = (trial, came)
            back = plan.finish(name, trial, came)
            returned += [digest for digest, _ in back]
            assert not back or (trial.attack is None and not is_attacked(came, attack_unmarked))
        else:
            break
    met = {name for name, (_, came) in ended.items() if is_attacked(came, attack_unmarked)}
    check_end(source, plan, attacks, met=met, begun=begun, returned=returned, ended=ended)


def is_attacked(victim: Outcome, attack_unmarked: bool) -> bool:
    return victim.status == "done" and (attack_unmarked or victim.marked in (True, None))


def check_end(
    source: Given, plan: TrialQueue, attacks: Any, *, met: set[str], begun: Any, returned: Any, ended: Any
) -> None:
    """Hold a finished plan against what plain loops say of it."""
    names = {victim_digest(victim, SETS): victim for victim in source.victims}
    due = {
        name: {trial_digest(Trial(victim=one, attack=attack.resolve(one)), SETS) for attack in attacks}
        for name, one in names.items()
    }
    done = [name for name in names if name in met]
    assert plan.next() is None
    assert plan.open == 0
    assert Counter(begun) == Counter([*names, *(theft for name in done for theft in due[name])])
    assert Counter(returned) == Counter(theft for name in names if name not in done for theft in due[name])
    assert (plan.victims, plan.attacks) == (len(names), sum(map(len, due.values())))
    assert sorted(source.told) == list(range(source.total))
    for number, victim in enumerate(source.victims):
        name = victim_digest(victim, SETS)
        students = [ended[theft][1] for theft in begun if theft in due[name]]
        told, right = source.told[number], expected(ended[name][1], students)
        assert (told is None) == (right is None)
        assert told is None or told == pytest.approx(right)


def test_a_victim_without_a_watermark_is_not_attacked_unless_that_is_asked() -> None:
    for asked in (False, True):
        source = Given(POOL[:1])
        plan = TrialQueue(source, ATTACKS[2:], SETS, attack_unmarked=asked)
        name, trial = plan.next() or pytest.fail("no victim")
        back = plan.finish(name, trial, outcome(trial, True, 1, marked=False))
        assert len(back) == (0 if asked else 2)
        assert plan.attacks == 2
        assert (plan.next() is None) == (not asked)
        if not asked:
            told = {"clean_acc": 0.1, "query_acc": 0.05, "log10_p": -1.0, "marked": False}
            assert source.told[0] == plan.measures(name) == told


def test_attacks_come_before_the_next_victim() -> None:
    plan = TrialQueue(Given(POOL[:2]), [Extraction()], SETS)
    name, trial = plan.next() or pytest.fail("no victim")
    plan.finish(name, trial, outcome(trial, True, 5))
    kinds = []
    while (item := plan.next()) is not None:
        kinds.append((item[1].attack is None, item[1].victim.seed))
    assert kinds == [(False, 0), (True, 1)]


def test_an_attack_carries_the_network_and_recipe_of_its_victim() -> None:
    plan = TrialQueue(Given(POOL[:1]), [Extraction(), Extraction(student=Cnn(width=3))], SETS)
    name, trial = plan.next() or pytest.fail("no victim")
    plan.finish(name, trial, outcome(trial, True, 5))
    attacks = [plan.next(), plan.next()]
    students = [item[1].attack.architecture(POOL[0]) for item in attacks if item and item[1].attack]
    assert students == [POOL[0].model, Cnn(width=3)]
    assert all(decode(Trial, json.loads(json.dumps(encode(item[1])))) == item[1] for item in attacks if item)


@pytest.mark.parametrize(("logs", "worst"), [([-9.0, -4.0, -5.0], 1), ([None, None, None], 2), ([-4.0, -4.0, -9.0], 1)])
def test_the_worst_attack_is_the_one_that_leaves_least(logs: list[float | None], worst: int) -> None:
    queue = TrialQueue(Given(POOL[:1]), ATTACKS, SETS)
    given = []
    for place in range(4):
        name, trial = queue.next() or pytest.fail("nothing is next")
        given.append(trial)
        left: dict[str, Any] = {} if place == 0 else {"log10_p": logs[place - 1], "query_acc": 0.5 - place / 10}
        queue.finish(name, trial, replace(outcome(trial, True, 0), **left))
    victim = victim_digest(POOL[0], SETS)
    expected = given[1 + worst].attack
    assert queue.worst_attack(victim) == attack_name(Trial(victim=POOL[0], attack=expected))
