"""The sender: every write arrives once, whatever fails in between; nobody waits for what will not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.runner.tracking import sender
from mwm.runner.tracking.sender import MAX_ATTEMPTS, Sender, UnsentError


class LostError(Exception):
    """A service that is away, or says no."""

    def __init__(self, code: str = "") -> None:
        super().__init__("gone to http://ann:secret@host\nand more")
        self.error_code = code


def opened(*, present: bool = False) -> Sender:
    return Sender("store", permanent=("NEVER",), is_reachable=lambda: present)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PAUSE_SECONDS", 0.002), ("HURRIED_PAUSE_SECONDS", 0.002), ("GRACE_SECONDS", 0.3)):
        monkeypatch.setattr(sender, name, seconds)


def failing(arrived: list[int], item: int, faults: list[str]) -> Callable[[], None]:
    def write() -> None:
        if faults:
            raise LostError(faults.pop())
        arrived.append(item)

    return write


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=8))
def test_everything_arrives_once_and_in_order(faults: list[int]) -> None:
    arrived, one = list[int](), opened()
    assert all(one.send("rows", failing(arrived, item, [""] * times)) for item, times in enumerate(faults))
    assert arrived == list(range(len(faults)))
    assert not one.missing


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), max_size=8))
def test_what_no_repetition_mends_holds_nothing_up(refused: list[bool]) -> None:
    arrived, one = list[int](), opened()
    sent = [one.send("rows", failing(arrived, item, ["NEVER"] * fault)) for item, fault in enumerate(refused)]
    assert sent == [not fault for fault in refused]
    assert arrived == [item for item, fault in enumerate(refused) if not fault]
    assert one.missing.total() == sum(refused)


def test_a_write_is_given_up_after_some_tries_while_the_service_answers() -> None:
    arrived, faults, one = list[int](), [""] * 1000, opened(present=True)
    assert not one.send("rows", failing(arrived, 0, faults))
    assert 1000 - len(faults) == MAX_ATTEMPTS
    assert one.send("files", failing(arrived, 1, []))
    assert (arrived, one.missing) == ([1], {"rows": 1})


def test_a_kind_that_was_given_up_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "REST_SECONDS", 0.2)
    arrived, one = list[int](), opened(present=True)
    one.send("rows", failing(arrived, 0, [""] * 1000))
    assert not one.send("rows", failing(arrived, 1, []))
    assert one.missing == {"rows": 2}
    time.sleep(0.25)
    assert one.send("rows", failing(arrived, 2, []))
    assert arrived == [2]


def test_tries_while_the_service_was_away_do_not_count() -> None:
    arrived, answers = list[int](), [True] * MAX_ATTEMPTS + [False] * 20
    one = Sender("store", permanent=(), is_reachable=answers.pop)
    assert one.send("rows", failing(arrived, 0, [""] * (20 + MAX_ATTEMPTS - 1)))
    assert arrived == [0]


def test_a_failure_is_followed_by_a_pause_that_the_end_cuts_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PAUSE_SECONDS", 30.0)
    arrived, faults, one = list[int](), [""], opened()
    thread = threading.Thread(target=one.send, args=("rows", failing(arrived, 0, faults)))
    thread.start()
    while faults:
        time.sleep(0.001)
    before = time.process_time()
    time.sleep(0.3)
    assert not arrived
    assert time.process_time() - before < 0.1, "the pause is spent working"
    one.hurry(5)
    thread.join(5)
    assert arrived == [0]


def test_waiting_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "GRACE_SECONDS", 60.0)
    one = opened()
    one.hurry(0.2)
    began = time.monotonic()
    with pytest.raises(UnsentError):
        one.send("rows", failing([], 0, [""] * 10_000))
    assert 0.15 < time.monotonic() - began < 2
    with pytest.raises(UnsentError):
        one.send("rows", failing([], 0, []))


def test_waiting_ends_when_the_service_stays_away() -> None:
    one = opened()
    one.hurry(60)
    began = time.monotonic()
    with pytest.raises(UnsentError):
        one.send("rows", failing([], 0, [""] * 10_000))
    assert 0.2 < time.monotonic() - began < 5


def test_a_kind_of_failure_is_told_once_in_one_line_without_password(capsys: pytest.CaptureFixture[str]) -> None:
    one = opened()
    for _ in range(2):
        assert one.send("rows", failing([], 0, [""] * 3))
    assert capsys.readouterr().err == "warning: store: gone to http://ann:***@host and more\n"
