"""What sync tells a follower: the journal, what the store knows besides, and all of journals of earlier releases."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mwm.attacks import Extraction
from mwm.config.spec import encode
from mwm.runner.execution.sync import told
from mwm.runner.workspace.journal import JOURNAL, Journal
from mwm.storage.store import Store
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial
from tests.helpers.records import VICTIM, Loaded, done, theft

MARKED, STOLEN = Trial(victim=VICTIM), theft(Extraction())


@pytest.fixture
def ended(tmp_path: Path, sets: Loaded) -> tuple[Outcome, Outcome, Store]:
    """A victim and an attack on it, done, and their store."""
    store = Store(tmp_path / "store")
    return done(MARKED, sets, store), done(STOLEN, sets, store), store


def start(journal: Journal, trial: Trial, outcome: Outcome) -> None:
    names = {"victim_digest": outcome.victim_digest, "data_digest": outcome.data_digest}
    kind = "victim" if trial.attack is None else "attack"
    journal.start(outcome.digest, kind, "a trial", epochs=2, trial=encode(trial), **names)


def sorts(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["event"], one.get("digest", one.get("outcome", {}).get("digest", ""))) for one in events]


def test_a_whole_journal_is_told_as_it_stands(tmp_path: Path, ended: tuple[Outcome, Outcome, Store]) -> None:
    victim, _, store = ended
    journal = Journal(tmp_path, print)
    journal.begin()
    start(journal, MARKED, victim)
    journal.epochs(victim.digest, store.rows(victim.digest))
    journal.finish(encode(MARKED), asdict(victim), "a victim")
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    found = list(told(tmp_path, store))
    assert [event for event, _ in found] == [json.loads(line) for line in lines]
    assert [after for _, after in found] == [sum(map(len, lines[: number + 1])) for number in range(4)]
    assert list(told(tmp_path, store, found[1][1])) == found[2:]


def test_what_the_store_knows_of_an_end_is_told(tmp_path: Path, ended: tuple[Outcome, Outcome, Store]) -> None:
    victim, attack, store = ended
    journal = Journal(tmp_path, print)
    start(journal, MARKED, victim)
    start(journal, STOLEN, attack)
    journal.start("lost", "victim", "of which nobody knows", trial=encode(MARKED))
    *_, first, second = (event for event, _ in told(tmp_path, store))
    assert sorts([first, second]) == [("finish", victim.digest), ("finish", attack.digest)]
    assert Outcome(**second["outcome"]) == attack
    assert second["at"] > first["at"] > journal._at


def test_a_journal_of_an_earlier_release_is_told_in_full(tmp_path: Path, ended: tuple[Outcome, Outcome, Store]) -> None:
    victim, attack, store = ended
    failed = asdict(attack) | {"status": "failed", "error": "boom"}
    lines = [
        {"at": 10.0, "event": "begin", "pid": 1, "host": "h", "totals": {"victim": 1, "attack": 1}},
        {"at": 11.0, "event": "start", "digest": victim.digest, "kind": "victim", "label": "v"},
        {"at": 12.0, "event": "finish", "label": "v", "outcome": asdict(victim), "trial": encode(MARKED)},
        {"at": 13.0, "event": "start", "digest": attack.digest, "kind": "attack", "label": "a"},
        {"at": 14.0, "event": "finish", "label": "a", "outcome": failed, "trial": encode(STOLEN)},
    ]
    (tmp_path / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole = [event for event, _ in told(tmp_path, store) if event["event"] != "start" or "trial" in event]
    assert sorts(whole[1:4]) == [("start", victim.digest), ("epochs", victim.digest), ("finish", victim.digest)]
    assert sorts(whole[4:]) == [("start", attack.digest), ("finish", attack.digest)]
    assert whole[2]["rows"] == store.rows(victim.digest)
    assert whole[1]["at"] == 11.0
    assert 11.0 < whole[2]["at"] < 12.0
    assert (whole[1]["victim_digest"], whole[1]["data_digest"]) == (victim.victim_digest, victim.data_digest)


def test_epochs_that_nobody_has_any_more_are_left_out(tmp_path: Path, ended: tuple[Outcome, Outcome, Store]) -> None:
    victim, _, _ = ended
    journal = Journal(tmp_path, print)
    journal.start(victim.digest, "victim", "v")
    journal.finish(encode(MARKED), asdict(victim), "v")
    found = [event for event, _ in told(tmp_path, Store(tmp_path / "another"))]
    assert sorts(found)[-2:] == [("start", victim.digest), ("finish", victim.digest)]
