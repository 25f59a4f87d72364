"""Tune's view of a queue: retries, early ends, and what is cached; with a real recorder, store and MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mwm.attacks import Extraction
from mwm.config.spec import decode
from mwm.runner.execution.recorder import SweepRecorder
from mwm.runner.execution.results import SweepResults
from mwm.runner.execution.searcher import MAX_RETRIES, MAX_TRANSIENT_RETRIES, TrialSearcher
from mwm.runner.sweeps.trial_queue import TrialQueue
from mwm.runner.tracking.follower import Followed, MlflowFollower
from mwm.runner.workspace.journal import Journal, read_events
from mwm.runner.workspace.location import PICTURES
from mwm.storage.store import Store
from mwm.trials.outcome import EpochMetrics, Outcome, TrialReport
from mwm.trials.trial import Trial, Victim, trial_digest, victim_digest
from tests.helpers.records import VICTIM, Loaded, done, swept

ATTACKS = [Extraction(), Extraction(labels="hard")]


class Two:
    """Two victims."""

    total = 2

    def __init__(self) -> None:
        self._left = [(seed, replace(VICTIM, seed=seed)) for seed in (1, 0)]

    def ask(self) -> tuple[int, Victim] | None:
        return self._left.pop() if self._left else None

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        """Nobody learns here."""


class Bench:
    """A searcher at work: trials are asked for and answered by hand."""

    def __init__(self, folder: Path, uri: str, sets: Loaded, *, attack_unmarked: bool = False) -> None:
        self.sets, self.store = sets, Store(folder / "store")
        self.queue = TrialQueue(Two(), ATTACKS, sets, attack_unmarked=attack_unmarked)
        followed = Followed("staged", partial(read_events, folder), folder, folder / PICTURES)
        mlflow = MlflowFollower(uri, followed, tags={})
        kept = SweepResults(replace(swept({}), name="staged"), folder, self.store, print, mlflow=mlflow)
        self.recorder = SweepRecorder(kept, Journal(folder, print), sets)
        self.searcher = TrialSearcher(self.queue, self.recorder, store=self.store, sets=sets)
        self.count = 0

    def ask(self) -> tuple[str, Any]:
        """A Tune trial's id and its trial; None or FINISHED where there is none."""
        self.count += 1
        config = self.searcher.suggest(str(self.count))
        return str(self.count), decode(Trial, config) if isinstance(config, dict) else config

    def tell(
        self, number: str, *epochs: int, outcome: Outcome | None = None, error: str = "", passing: bool = False
    ) -> None:
        rows = [EpochMetrics(epoch=one, loss=1, lr=1, val_acc=0, query_acc=0, epoch_seconds=1) for one in epochs]
        report = TrialReport(rows=rows, outcome=outcome, error=error, transient=passing)
        self.searcher.on_trial_result(number, report.pack())

    def fail(self, number: str) -> None:
        self.searcher.on_trial_complete(number, error=True)

    def answer(self, number: str, trial: Trial, **more: Any) -> None:
        name, victim = trial_digest(trial, self.sets), victim_digest(trial.victim, self.sets)
        blank = Outcome(status="done", digest=name, victim_digest=victim, data_digest="d", clean_acc=0.5, query_acc=0.5)
        self.tell(number, 1, outcome=replace(blank, **more))
        self.searcher.on_trial_complete(number)

    def statuses(self) -> dict[str, str]:
        return {name: outcome.status for name, (_, outcome) in self.recorder.results.outcomes.items()}


@pytest.fixture
def bench(request: pytest.FixtureRequest, uri: str, tmp_path: Path, sets: Loaded) -> Iterator[Bench]:
    at_work = Bench(tmp_path, uri, sets, attack_unmarked=getattr(request, "param", False))
    yield at_work
    at_work.recorder.close("FINISHED", complete=True)


def test_a_trial_whose_process_died_is_begun_again_first(bench: Bench) -> None:
    number, trial = bench.ask()
    bench.tell(number)
    bench.fail(number)
    again, same = bench.ask()
    assert same == trial
    assert again != number
    bench.answer(again, same)
    assert list(bench.statuses().values()) == ["done"]


def test_a_trial_that_gets_no_further_is_given_up(bench: Bench) -> None:
    for _ in range(MAX_RETRIES + 1):
        number, trial = bench.ask()
        bench.tell(number, 1)
        bench.fail(number)
    name = trial_digest(trial, bench.sets)
    assert bench.statuses()[name] == "failed"
    assert bench.recorder.results.outcomes[name][1].error == "its process died 3 times"
    assert sorted(bench.statuses().values()) == ["failed", "skipped", "skipped"]
    assert bench.ask()[1] != trial, "it was begun once more"


def test_a_trial_that_gets_further_each_time_is_never_given_up(bench: Bench) -> None:
    for epoch in range(1, 10):
        number, trial = bench.ask()
        bench.tell(number, *range(1, epoch + 1))
        bench.fail(number)
    number, same = bench.ask()
    assert same == trial
    bench.answer(number, same)
    assert list(bench.statuses().values()) == ["done"]


def test_an_error_is_told_in_the_words_of_the_last_attempt(bench: Bench) -> None:
    for attempt in range(MAX_RETRIES + 1):
        number, trial = bench.ask()
        bench.tell(number)
        bench.tell(number, error=f"RuntimeError: attempt {attempt}")
        bench.fail(number)
    assert bench.recorder.results.outcomes[trial_digest(trial, bench.sets)][1].error == "RuntimeError: attempt 2"


@pytest.mark.parametrize("began", [True, False], ids=["disk full", "died before it began"])
def test_a_trial_that_is_not_to_blame_is_begun_again_after_a_pause(bench: Bench, began: bool) -> None:
    def fail(number: str) -> None:
        if began:
            bench.tell(number, error="OSError: full", passing=True)
        bench.fail(number)

    number, trial = bench.ask()
    bench.ask()
    for attempt in range(MAX_TRANSIENT_RETRIES):
        fail(number)
        assert bench.ask()[1] is None, "it was begun again at once"
        ((ready, name, held),) = bench.searcher.retries
        assert ready - time.monotonic() == pytest.approx(2**attempt, abs=0.9)
        bench.searcher.retries = [(0.0, name, held)]
        number, same = bench.ask()
        assert same == trial
    assert not bench.statuses(), "it was given up too early"
    fail(number)
    error = bench.recorder.results.outcomes[trial_digest(trial, bench.sets)][1].error
    assert error == ("OSError: full" if began else "its process died 7 times")


def test_blame_and_bad_luck_are_counted_apart(bench: Bench) -> None:
    number, trial = bench.ask()
    for _ in range(MAX_RETRIES):
        bench.tell(number)
        bench.fail(number)
        number, same = bench.ask()
        assert same == trial
    bench.fail(number)
    assert not bench.statuses(), "a process that died before it began was held against the trial"
    bench.searcher.retries = [(0.0, name, held) for _, name, held in bench.searcher.retries]
    number, same = bench.ask()
    bench.tell(number)
    bench.fail(number)
    assert bench.recorder.results.outcomes[trial_digest(same, bench.sets)][1].error == "its process died 4 times"


def test_a_victim_that_is_ended_early_meets_no_attack(bench: Bench) -> None:
    number, trial = bench.ask()
    bench.tell(number, 1, 2)
    bench.searcher.on_trial_complete(number)
    name = trial_digest(trial, bench.sets)
    assert bench.statuses() == {name: "stopped"}
    assert "after epoch 2" in bench.recorder.results.outcomes[name][1].error
    assert (bench.queue.victims, bench.queue.attacks) == (2, 2)
    for _ in range(3):
        number, other = bench.ask()
        assert other.victim.seed != trial.victim.seed
        bench.answer(number, other)
    assert bench.ask()[1] == "FINISHED"


def test_a_victim_without_a_watermark_meets_no_attack(bench: Bench, uri: str, tmp_path: Path) -> None:
    number, trial = bench.ask()
    bench.answer(number, trial, marked=False, log10_p=-0.3)
    number, other = bench.ask()
    assert other.attack is None, "an attack on it was begun"
    bench.answer(number, other, marked=True, log10_p=-9.0)
    assert bench.ask()[1].attack is not None
    ended = [outcome for _, outcome in bench.recorder.results.outcomes.values()]
    assert bench.recorder.results.unmarked == 1
    assert [one.error for one in ended if one.status == "skipped"] == ["its victim carries no watermark"] * 2
    events = len((tmp_path / "journal.jsonl").read_text().splitlines())
    bench.recorder.close("KILLED", complete=False)
    again = Bench(tmp_path, uri, bench.sets)
    number, same = again.ask()
    assert same == trial
    again.answer(number, same, marked=False, log10_p=-0.3)
    told = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()[events:]]
    assert [one["event"] for one in told if one.get("status") == "skipped"] == ["cached"] * 2, "told in full once more"
    again.recorder.close("KILLED", complete=False)


def test_who_was_ended_early_stays_so_in_the_next_session(bench: Bench, uri: str, tmp_path: Path) -> None:
    number, trial = bench.ask()
    bench.tell(number, 1)
    bench.searcher.on_trial_complete(number)
    bench.recorder.close("KILLED", complete=False)
    again = Bench(tmp_path, uri, bench.sets)
    _, other = again.ask()
    assert other.victim.seed != trial.victim.seed
    assert again.statuses() == {trial_digest(trial, again.sets): "stopped"}
    again.recorder.close("KILLED", complete=False)


@pytest.mark.parametrize("bench", [True], indirect=True)
def test_what_is_in_the_store_is_not_run(bench: Bench) -> None:
    known = done(Trial(victim=VICTIM), bench.sets, bench.store)
    _, trial = bench.ask()
    assert trial.attack is not None, "the victim was trained again"
    assert trial.victim == VICTIM
    assert bench.recorder.results.outcomes[known.digest][1] == known


def test_what_was_finished_unheard_is_collected(bench: Bench) -> None:
    _, trial = bench.ask()
    bench.ask()
    known = done(trial, bench.sets, bench.store)
    bench.searcher.collect_finished()
    assert bench.statuses() == {known.digest: "done"}


@pytest.mark.parametrize("bench", [True], indirect=True)
def test_a_store_that_is_away_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    folder, away = tmp_path / "store", tmp_path / "away"
    name = done(Trial(victim=VICTIM), bench.sets, bench.store).digest
    place = folder / name[:2]
    place.rename(away)
    place.symlink_to(place.name)  # a loop: what lies there cannot be read, nor is it missing
    assert bench.ask()[1] is None
    assert bench.ask()[1] is None, "it was asked again at once"
    place.unlink()
    away.rename(place)
    bench.searcher.wait_until = 0.0
    _, trial = bench.ask()
    assert trial.attack is not None, "what the store held was trained again"
    assert not bench.searcher.failures


def test_results_of_an_earlier_session_stay_in_the_table(bench: Bench, uri: str, tmp_path: Path) -> None:
    number, trial = bench.ask()
    bench.answer(number, trial)
    bench.recorder.close("KILLED", complete=False)
    again = Bench(tmp_path, uri, bench.sets)
    again.recorder.close("KILLED", complete=False)
    assert [result.trial for result in again.recorder.results.all()] == [trial]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 2
