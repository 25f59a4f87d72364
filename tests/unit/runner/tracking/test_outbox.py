"""The outbox: everything arrives once and in order, whatever fails in between, and nothing is raised or held up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.runner.tracking import outbox
from mwm.runner.tracking.outbox import BACKLOG, MAX_ATTEMPTS, Outbox


class LostError(Exception):
    """A service that is away, or says no."""

    def __init__(self, code: str = "") -> None:
        super().__init__("gone to http://ann:secret@host\nand more")
        self.error_code = code


@contextmanager
def opened(*, present: bool = False) -> Iterator[Outbox]:
    box = Outbox("store", permanent=("NEVER",), is_reachable=lambda: present)
    yield box
    box.close(0)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PAUSE_SECONDS", 30.0), ("HURRIED_PAUSE_SECONDS", 0.002), ("GRACE_SECONDS", 0.3)):
        monkeypatch.setattr(outbox, name, seconds)


def failing(arrived: list[int], item: int, faults: list[str]) -> Callable[[], None]:
    def send() -> None:
        if faults:
            raise LostError(faults.pop())
        arrived.append(item)

    return send


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=8))
def test_everything_arrives_once_and_in_order(faults: list[int]) -> None:
    arrived: list[int] = []
    with opened() as box:
        for item, times in enumerate(faults):
            box.put(failing(arrived, item, [""] * times))
        assert box.flush(10) == 0
        assert box.close(1) == 0
    assert arrived == list(range(len(faults)))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), max_size=8))
def test_what_no_repetition_mends_holds_nothing_up(refused: list[bool]) -> None:
    arrived: list[int] = []
    with opened() as box:
        for item, fault in enumerate(refused):
            box.put(failing(arrived, item, ["NEVER"] * fault))
        assert box.close(5) == sum(refused)
    assert arrived == [item for item, fault in enumerate(refused) if not fault]


@pytest.mark.parametrize("present", [True, False])
def test_a_write_is_given_up_only_while_the_service_answers(present: bool) -> None:
    arrived, faults = list[int](), [""] * 1000
    with opened(present=present) as box:
        box.put(failing(arrived, 0, faults))
        box.put(failing(arrived, 1, []))
        assert box.close(5) == (1 if present else 2)
        assert (arrived, len(box)) == (([1], 0) if present else ([], 2))
        assert (1000 - len(faults) == MAX_ATTEMPTS) == present


def test_tries_while_the_service_was_away_do_not_count() -> None:
    arrived, answers = list[int](), [True] * MAX_ATTEMPTS + [False] * 20
    with opened() as box:
        box._is_reachable = answers.pop
        box.put(failing(arrived, 0, [""] * (20 + MAX_ATTEMPTS - 1)))
        assert box.close(5) == 0
    assert arrived == [0]


def test_the_caller_waits_for_nothing() -> None:
    free = threading.Event()
    with opened() as box:
        box.put(free.wait)
        began = time.monotonic()
        for _ in range(1000):
            box.put(lambda: None)
        assert time.monotonic() - began < 0.5
        assert len(box) == 1001
        free.set()
        assert box.flush(10) == 0


def test_a_failure_is_followed_by_a_pause_that_a_flush_ends() -> None:
    arrived, faults = list[int](), [""]
    with opened() as box:
        box.put(failing(arrived, 0, faults))
        while faults:
            time.sleep(0.001)
        time.sleep(0.1)
        assert len(box) == 1
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1, "the pause is spent working"
        assert box.flush(5) == 0
    assert arrived == [0]


def test_waiting_ends_when_its_time_is_up() -> None:
    with opened() as box:
        for _ in range(10):
            box.put(lambda: time.sleep(0.05))
        began = time.monotonic()
        assert 5 <= box.flush(0.12) <= 9
        assert time.monotonic() - began < 0.3


def test_waiting_ends_when_the_service_stays_away() -> None:
    with opened() as box:
        box.put(failing([], 0, [""] * 10_000))
        began = time.monotonic()
        assert box.close(60) == 1
        assert 0.2 < time.monotonic() - began < 5


def test_a_service_that_hangs_does_not_hold_the_end_up() -> None:
    free = threading.Event()
    with opened() as box:
        box.put(free.wait)
        began = time.monotonic()
        assert box.close(0.2) == 1
        assert time.monotonic() - began < 2
        free.set()


def test_the_thread_ends_with_the_outbox() -> None:
    before = {*threading.enumerate()}  # those of other tests may end meanwhile
    with opened() as box:
        assert len({*threading.enumerate()} - before) == 1
        assert box.close(5) == 0
        assert not {*threading.enumerate()} - before


def test_many_threads_may_write() -> None:
    arrived: list[tuple[int, int]] = []

    def write(box: Outbox, thread: int) -> None:
        for number in range(200):
            box.put(lambda number=number: arrived.append((thread, number)))  # type: ignore[misc]

    with opened() as box:
        threads = [threading.Thread(target=write, args=(box, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert box.close(10) == 0
    assert len(arrived) == 800
    for who in range(4):
        assert [number for writer, number in arrived if writer == who] == list(range(200))


def test_a_kind_of_failure_is_told_once_in_one_line_without_password(capsys: pytest.CaptureFixture[str]) -> None:
    with opened() as box:
        box.put(failing([], 0, [""] * 3))
        assert box.close(5) == 0
    assert capsys.readouterr().err == "warning: store: gone to http://ann:***@host and more\n"


def test_spare_writes_are_left_out_of_a_full_outbox() -> None:
    free = threading.Event()
    with opened() as box:
        box.put(free.wait)
        for _ in range(BACKLOG + 5):
            box.put(lambda: None, droppable=True)
        assert len(box) == BACKLOG
        box.put(lambda: None)
        assert len(box) == BACKLOG + 1
        free.set()
        assert box.close(10) == 0
