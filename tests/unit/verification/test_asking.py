"""Asking a suspect: order, batches, pace, and that no answer is lost whatever ends it."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.verification.querying.answer_log import ANSWERS, SuspectAnswers, open_answer_log
from mwm.verification.querying.asking import AskPolicy, ask
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects import NoAnswerError
from tests.helpers.verifying import CLASSES, questions

PLAN: dict[str, Any] = {"key": "k", "suspects": [{"name": "one", "sha256": ""}], "test": "rank_sum", "cells": 12}
ASKED = questions()


@dataclass
class Scripted:
    """A suspect that says the true label, or what `score` says; it refuses requests for which `refuses` holds."""

    asked: OrderedQueries = ASKED
    refuses: Callable[[list[int]], bool] = lambda _: False
    scores: bool = False
    requests: list[list[int]] = field(default_factory=list)
    name: str = "scripted"
    access: str = "callable"
    fault: str = "scripted: said nothing"
    final: bool = True
    identity: str = "itself"

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        numbers = [self._number(image) for image in images]
        self.requests.append(numbers)
        if self.refuses(numbers):
            raise NoAnswerError(self.fault, permanent=self.final)
        truth = self.asked.truth[numbers]
        return np.where(np.eye(CLASSES)[truth] > 0, 1.0, -np.inf) if self.scores else truth

    def _number(self, image: NDArray[np.uint8]) -> int:
        return int((self.asked.images == image).all((1, 2, 3)).argmax())


def asked_all(folder: Path, suspect: Scripted, *, plan: dict[str, Any] = PLAN, batch: int = 5, **policy: Any) -> Any:
    """One inquiry to its end: the answers, and the page that they are on."""
    with open_answer_log(folder, plan) as (page,):
        done = ask(suspect, ASKED, page, policy=AskPolicy(**policy), more=lambda _: batch)
        return page.answers(ASKED.numbers[:done], CLASSES), page


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ANSWERS).read_text().splitlines()]


def test_every_query_is_asked_once_in_order(tmp_path: Path) -> None:
    suspect = Scripted()
    told, page = asked_all(tmp_path, suspect)
    assert suspect.requests == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert told.labels.tolist() == ASKED.truth.tolist()
    assert (page.requests, page.fresh, page.silent) == (3, len(ASKED), set())
    assert told.scores is None
    assert told.form == "labels"
    lines = written(tmp_path)
    assert lines[0] == {"plan": PLAN}
    assert [line["queries"] for line in lines[1:]] == suspect.requests
    assert all(line["suspect"] == 0 and line["at"].endswith("Z") for line in lines[1:])


def test_what_is_on_the_sheet_is_not_asked_again(tmp_path: Path) -> None:
    first, _ = asked_all(tmp_path, Scripted())
    size, again = (tmp_path / ANSWERS).stat().st_size, Scripted()
    told, page = asked_all(tmp_path, again)
    assert again.requests == []
    assert told.labels.tolist() == first.labels.tolist()
    assert (page.requests, page.fresh) == (3, 0)
    assert (tmp_path / ANSWERS).stat().st_size == size


def test_scores_are_kept_without_infinity(tmp_path: Path) -> None:
    asked_all(tmp_path, Scripted(scores=True))
    told, _ = asked_all(tmp_path, Scripted())
    assert "Infinity" not in (tmp_path / ANSWERS).read_text()
    assert told.form == "scores"
    assert told.scores.shape == (len(ASKED), CLASSES)
    assert told.scores.argmax(1).tolist() == told.labels.tolist() == ASKED.truth.tolist()


@pytest.mark.parametrize("torn", range(1, 60, 7))
def test_a_torn_line_is_asked_again(torn: int, tmp_path: Path) -> None:
    """Wherever the last line was cut off: all other answers are kept, and the sheet is whole afterwards."""
    asked_all(tmp_path, Scripted())
    path = tmp_path / ANSWERS
    data = path.read_bytes()
    path.write_bytes(data[:-torn])
    suspect = Scripted()
    told, _ = asked_all(tmp_path, suspect)
    assert suspect.requests == [[10, 11]]
    assert told.labels.tolist() == ASKED.truth.tolist()
    assert [line.get("queries") for line in written(tmp_path)][1:] == [[*range(5)], [*range(5, 10)], [10, 11]]


def test_a_sheet_without_a_whole_line_begins_anew(tmp_path: Path) -> None:
    (tmp_path / ANSWERS).write_text('{"plan": {"ke')
    told, _ = asked_all(tmp_path, Scripted())
    assert len(told) == len(ASKED)
    assert written(tmp_path)[0] == {"plan": PLAN}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"key": "other"}, "key"),
        ({"suspects": [{"name": "two", "sha256": ""}]}, "suspects"),
        ({"cells": 9}, "cells"),
    ],
)
def test_a_folder_of_another_plan_is_refused(change: dict[str, Any], word: str, tmp_path: Path) -> None:
    asked_all(tmp_path, Scripted())
    before = (tmp_path / ANSWERS).read_bytes()
    suspect = Scripted()
    with pytest.raises(ValueError, match=f"^output: .* was begun otherwise: {word} was .* name another folder$"):
        asked_all(tmp_path, suspect, plan=PLAN | change)
    assert suspect.requests == []
    assert (tmp_path / ANSWERS).read_bytes() == before


@pytest.mark.parametrize("line", [b'{"suspect":0,"la\xff', b"5", b'{"suspect":0}', b"null"])
def test_a_damaged_line_is_refused(line: bytes, tmp_path: Path) -> None:
    asked_all(tmp_path, Scripted())
    lines = (tmp_path / ANSWERS).read_bytes().splitlines()
    (tmp_path / ANSWERS).write_bytes(b"\n".join([lines[0], line, *lines[2:], b""]))
    with pytest.raises(ValueError, match=r"line 2 of answers.jsonl is damaged; name another folder$"):
        asked_all(tmp_path, Scripted())


@pytest.mark.parametrize(("count", "sizes"), [(100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_a_request_holds_a_hundred_queries(count: int, sizes: list[int], tmp_path: Path) -> None:
    many = questions(count)
    suspect = Scripted(many)
    with open_answer_log(tmp_path, PLAN) as (page,):
        ask(suspect, many, page, policy=AskPolicy(), more=lambda _: 100)
    assert [len(numbers) for numbers in suspect.requests] == sizes


def test_two_processes_do_not_share_a_sheet(tmp_path: Path) -> None:
    with (
        open_answer_log(tmp_path, PLAN),
        pytest.raises(ValueError, match="being written by another process"),
        open_answer_log(tmp_path, PLAN),
    ):
        pytest.fail("two have it")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output: .*file.* cannot be written"):
        asked_all(tmp_path / "file", Scripted())


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("mine")
    with pytest.raises(ValueError, match=r"output: .* holds files of something else; name a new folder"):
        asked_all(tmp_path, Scripted())
    assert [path.name for path in tmp_path.iterdir()] == ["key.json"]


def test_silence_ends_the_inquiry_and_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError):
        asked_all(tmp_path, Scripted(refuses=lambda numbers: 7 in numbers))
    later = Scripted()
    told, _ = asked_all(tmp_path, later)
    assert later.requests == [[5, 6, 7, 8, 9], [10, 11]]
    assert told.labels.tolist() == ASKED.truth.tolist()


def test_only_the_very_query_that_is_refused_stays_unanswered(tmp_path: Path) -> None:
    suspect = Scripted(refuses=lambda numbers: 7 in numbers, scores=True)
    told, page = asked_all(tmp_path, suspect, skip=True)
    assert page.silent == {7}
    assert told.labels[7] == -1
    assert np.delete(told.labels, 7).tolist() == np.delete(ASKED.truth, 7).tolist()
    assert told.scores[7].tolist() == [1 / CLASSES] * CLASSES
    (refused,) = [line for line in written(tmp_path)[1:] if "error" in line]
    assert (refused["queries"], refused["labels"], refused["error"]) == ([7], [-1], "scripted: said nothing")


def test_what_was_refused_is_asked_once_more(tmp_path: Path) -> None:
    asked_all(tmp_path, Scripted(refuses=lambda numbers: 7 in numbers), skip=True)
    suspect = Scripted()
    told, page = asked_all(tmp_path, suspect)
    assert suspect.requests == [[7]]
    assert told.labels.tolist() == ASKED.truth.tolist()
    assert page.silent == set()
    assert asked_all(tmp_path, Scripted(), skip=True)[1].silent == set(), "the later answer counts"


def test_an_outage_is_not_skipped(tmp_path: Path) -> None:
    suspect = Scripted(refuses=lambda numbers: 7 in numbers, final=False)
    with pytest.raises(NoAnswerError, match="said nothing"):
        asked_all(tmp_path, suspect, skip=True)
    assert suspect.requests == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], "halved for nothing"


def test_who_answers_nothing_at_all_is_silent(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError, match="scripted: answered not one of 12 queries"):
        asked_all(tmp_path, Scripted(refuses=bool), skip=True)


def test_a_password_in_what_a_suspect_says_is_not_kept(tmp_path: Path) -> None:
    fault = "https://me:hunter2@host: said nothing"
    asked_all(tmp_path, Scripted(refuses=lambda numbers: 7 in numbers, fault=fault), skip=True)
    assert "hunter2" not in (tmp_path / ANSWERS).read_text()


def test_requests_keep_their_rate(tmp_path: Path) -> None:
    began = time.monotonic()
    asked_all(tmp_path, Scripted(), batch=2, rate=50)
    assert time.monotonic() - began >= 5 / 50


def test_more_may_end_it(tmp_path: Path) -> None:
    suspect = Scripted()
    with open_answer_log(tmp_path, PLAN) as (page,):
        done = ask(suspect, ASKED, page, policy=AskPolicy(), more=lambda done: 3 if done < 6 else 0)
    assert suspect.requests == [[0, 1, 2], [3, 4, 5]]
    assert done == 6


def test_the_form_of_the_first_answer_counts_for_all(tmp_path: Path) -> None:
    """Labels after scores are sure of their class, and scores after labels tell their largest alone."""
    sheet = SuspectAnswers(None, 0)
    sheet.record([3], None, seconds=0, error="refused")
    sheet.record([0, 1], np.array([[0.0, 2, 1, 0], [3, 0, 0, 0]]), seconds=0)
    sheet.record([2, 4], np.array([1, 77]), seconds=0)
    told = sheet.answers([3, 1, 2, 4], CLASSES)
    assert told.labels.tolist() == [-1, 0, 1, 77]
    assert told.scores is not None
    assert told.scores.tolist() == [[0.25] * 4, [3, 0, 0, 0], [0, 1, 0, 0], [0.25] * 4]
    later = sheet.answers([2, 3, 0], CLASSES)
    assert (later.form, later.labels.tolist()) == ("labels", [1, -1, 1])
    assert [sheet.offers_scores(numbers) for numbers in ([], [3], [3, 0], [2, 0])] == [False, False, True, False]


def test_a_control_is_the_last_on_the_sheet(tmp_path: Path) -> None:
    plan = PLAN | {"control": {"name": "other"}}
    for folder in (tmp_path, None):
        with open_answer_log(folder, plan) as pages:
            assert [page.suspect for page in pages] == [0, 1]
            ask(Scripted(), ASKED, pages[-1], policy=AskPolicy(), more=lambda _: 5)
    assert {line["suspect"] for line in written(tmp_path)[1:]} == {1}
    with open_answer_log(tmp_path, plan) as pages:
        assert [len(page.labels) for page in pages] == [0, len(ASKED)]


def test_a_full_disk_loses_no_answer_that_it_took(tmp_path: Path) -> None:
    asked_all(tmp_path / "whole", Scripted())
    size = (tmp_path / "whole" / ANSWERS).stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            asked_all(tmp_path / "cut", Scripted())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    suspect = Scripted()
    told, _ = asked_all(tmp_path / "cut", suspect)
    assert suspect.requests == [[10, 11]]
    assert told.labels.tolist() == ASKED.truth.tolist()
