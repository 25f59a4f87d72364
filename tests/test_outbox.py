"""The outbox: everything arrives once and in order, whatever fails in between, and nothing is raised."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.outbox import BACKLOG, TRIES, Outbox, one_line


class LostError(Exception):
    """A service that is away, or says no."""

    def __init__(self, code: str = "") -> None:
        super().__init__("gone to http://ann:secret@host\nand more")
        self.error_code = code


def outbox(*, present: bool = False) -> Outbox:
    return Outbox("store", hopeless=("NEVER",), present=lambda: present)


def failing(arrived: list[int], item: int, faults: list[str]) -> Callable[[], None]:
    def send() -> None:
        if faults:
            raise LostError(faults.pop())
        arrived.append(item)

    return send


@given(st.lists(st.integers(0, 5), max_size=8))
def test_everything_arrives_once_and_in_order(faults: list[int]) -> None:
    box, arrived = outbox(), list[int]()
    for item, times in enumerate(faults):
        box.put(failing(arrived, item, [""] * times))
    for _ in range(sum(faults) + 1):
        box.drain(1, impatient=True)
    assert arrived == list(range(len(faults)))
    assert not box


@given(st.lists(st.booleans(), max_size=8))
def test_what_no_repetition_mends_holds_nothing_up(refused: list[bool]) -> None:
    box, arrived = outbox(), list[int]()
    for item, fault in enumerate(refused):
        box.put(failing(arrived, item, ["NEVER"] * fault))
    box.drain(1)
    assert arrived == [item for item, fault in enumerate(refused) if not fault]
    assert not box


@pytest.mark.parametrize("present", [True, False])
def test_a_write_is_given_up_only_while_the_service_answers(present: bool) -> None:
    box, arrived = outbox(present=present), list[int]()
    box.put(failing(arrived, 0, [""] * 100))
    box.put(failing(arrived, 1, []))
    for _ in range(TRIES):
        box.drain(1, impatient=True)
    assert (arrived, len(box)) == (([1], 0) if present else ([], 2))


def test_a_failure_is_followed_by_a_pause() -> None:
    box, arrived = outbox(), list[int]()
    box.put(failing(arrived, 0, [""]))
    box.drain(1)
    box.drain(1)
    assert len(box) == 1
    box.drain(1, impatient=True)
    assert arrived == [0]


def test_sending_ends_when_its_time_is_up() -> None:
    box = outbox()
    for _ in range(10):
        box.put(lambda: time.sleep(0.05))
    box.drain(0.12)
    assert 5 <= len(box) <= 9


def test_a_kind_of_failure_is_told_once_in_one_line_without_password(capsys: pytest.CaptureFixture[str]) -> None:
    box = outbox()
    box.put(failing([], 0, [""] * 3))
    for _ in range(3):
        box.drain(1, impatient=True)
    assert capsys.readouterr().err == "warning: store: gone to http://ann:***@host\n"


def test_spare_writes_are_dropped_from_a_full_outbox(capsys: pytest.CaptureFixture[str]) -> None:
    box = outbox()
    for _ in range(BACKLOG + 5):
        box.put(lambda: None, spare=True)
    assert len(box) == BACKLOG
    box.put(lambda: None)
    assert len(box) == BACKLOG + 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_without_words_is_named() -> None:
    assert one_line(KeyError()) == "KeyError"
