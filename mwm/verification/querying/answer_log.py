"""The answers of a suspect on disk: nothing that was answered is asked again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mwm.storage.lock import hold_lock
from mwm.verification.suspects.outputs import NO_ANSWER, NO_CLASS
from mwm.watermarks.evidence import log_probabilities
from mwm.watermarks.key import utc_now

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

ANSWERS = "answers.jsonl"
LINE = {"suspect", "at", "seconds", "queries", "labels"}
"""What the line of a request holds at least; also `scores`, or the `error` for which an image stays unanswered."""

REASONS = {"suspect", "reasons", "tried"}
"""What the line holds that says why a suspect is inconclusive."""


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """What was answered to some images: labels (int64 m), and scores (m C) if they were offered.

    No answer is the label -1, and equal scores. The form of the first answer counts for all: scores that follow labels
    are taken for the label that they give, and a label that follows scores for a score of 1 for its class alone.
    """

    labels: Labels
    scores: Scores | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def form(self) -> str:
        """Which form they have: labels or scores."""
        return "labels" if self.scores is None else "scores"

    def part(self, which: slice) -> Answers:
        """Some of them."""
        return Answers(self.labels[which], None if self.scores is None else self.scores[which])

    def first_choices(self, places: Labels, count: int, classes: int) -> Labels:
        """The class that each of `count` cells is taken for (int64), by the images at its `places` (m).

        It is the answer to its only image; of several, the class with the largest mean log-probability or with the most
        votes. -1 for no answer, and where several classes are level.
        """
        if len(self) == count:
            return self.labels
        sums = np.zeros((count, classes))
        if self.scores is not None:
            np.add.at(sums, places, log_probabilities(self.scores))
        else:
            named = (self.labels >= 0) & (self.labels < classes)
            np.add.at(sums, (places[named], self.labels[named]), 1.0)
        best = sums == sums.max(1, keepdims=True)
        return np.where(best.sum(1) == 1, best.argmax(1), NO_ANSWER)


@dataclass
class SuspectAnswers:
    """What one suspect has said so far, by the number of the image: labels, and scores (C each) where it gave them.

    It refused to answer those in `silent`, whose label is -1. `requests` were answered or given up and took `seconds`;
    `began` and `ended` are when the first and the last of them came back (ISO 8601, UTC). `fresh` counts the images
    that were asked by this process. `reasons` say why it is inconclusive, once that was asked for: it was shown `tried`
    images for that, which are no answers to the key. All is written to `file`, if there is one, under the `suspect`'s
    number.
    """

    file: BinaryIO | None
    suspect: int
    labels: dict[int, int] = field(default_factory=dict)
    scores: dict[int, list[float]] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    requests: int = 0
    seconds: float = 0.0
    began: str = ""
    ended: str = ""
    fresh: int = 0
    reasons: tuple[str, ...] | None = None
    tried: int = 0

    def record(self, queries: Sequence[int], answers: NDArray[Any] | None, *, seconds: float, error: str = "") -> None:
        """Write down the answers to a request: labels (n), scores (n C), or None if there were none."""
        line: dict[str, Any] = {
            "suspect": self.suspect,
            "at": utc_now(),
            "seconds": round(seconds, 4),
            "queries": list(queries),
        }
        if answers is None:
            line |= {"labels": [NO_ANSWER] * len(queries), "error": error}
        elif answers.ndim == 1:
            line["labels"] = answers.tolist()
        else:
            finite = np.nan_to_num(answers)  # JSON knows no infinity, and the order of the scores stays
            first = np.where((finite != finite[:, :1]).any(1), answers.argmax(1), NO_CLASS)
            line |= {"labels": first.tolist(), "scores": finite.tolist()}
        if self.file is not None:
            _append(self.file, line)
        self.replay(line)
        self.fresh += len(queries)

    def explain(self, reasons: Sequence[str], tried: int) -> None:
        """Write down why the suspect is inconclusive, and how many images it was shown to find that out."""
        line = {"suspect": self.suspect, "reasons": list(reasons), "tried": tried}
        if self.file is not None:
            _append(self.file, line)
        self.replay(line)

    def replay(self, line: Mapping[str, Any]) -> None:
        """Take in a line that has been written."""
        if "reasons" in line:
            self.reasons, self.tried = tuple(line["reasons"]), line["tried"]
            return
        self.labels |= zip(line["queries"], line["labels"], strict=True)
        self.scores |= zip(line["queries"], line.get("scores", ()), strict="scores" in line)
        self.silent -= set(line["queries"])
        self.silent |= set(line["queries"] if "error" in line else ())
        self.requests += 1
        self.seconds += line["seconds"]
        self.began, self.ended = self.began or line["at"], line["at"]

    def offers_scores(self, numbers: Sequence[int]) -> bool:
        """Whether the first answer to these images came with scores."""
        return next((number for number in numbers if number not in self.silent), None) in self.scores

    def answers(self, numbers: Sequence[int], classes: int) -> Answers:
        """What was answered to these images, in this order."""
        labels = np.array([self.labels[number] for number in numbers], np.int64)
        if not self.offers_scores(numbers):
            return Answers(labels, None)
        scores = [self.scores.get(number) or _sure(self.labels[number], classes) for number in numbers]
        return Answers(labels, np.array(scores, np.float64))


def _sure(label: int, classes: int) -> list[float]:
    """A score of 1 for a label alone; equal scores for one that is no class."""
    return [float(one == label) for one in range(classes)] if 0 <= label < classes else [1 / classes] * classes


@contextmanager
def open_answer_log(folder: Path | None, plan: Mapping[str, Any]) -> Iterator[list[SuspectAnswers]]:
    """The answers of each suspect of a plan, kept in `folder`: a line on the plan, then one per request as it comes.

    If the plan has a control, its answers are the last ones. Whatever ends the process, what was answered before is
    known and nobody is asked it again, but what was refused is asked once more. A line that was cut off is taken away.
    Without a folder nothing is written. Raises ValueError for a folder that was begun with another plan, is used by
    another process, is damaged or cannot be written.
    """
    count = len(plan["suspects"]) + bool(plan.get("control"))
    if folder is None:
        yield [SuspectAnswers(None, number) for number in range(count)]
        return
    with _locked_file(folder) as file:
        begun, *lines = _read_lines(file, folder) or [{}]
        if not begun:
            _append(file, {"plan": plan})
        elif difference := _difference(begun["plan"], plan):
            raise ValueError(f"output: {folder} was begun otherwise: {difference}; name another folder")
        answers = [SuspectAnswers(file, number) for number in range(count)]
        for line in lines:
            if "error" not in line:
                answers[line["suspect"]].replay(line)
        yield answers


@contextmanager
def _locked_file(folder: Path) -> Iterator[BinaryIO]:
    """The file of answers, which no other process has meanwhile, in a folder that only its owner can enter."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ANSWERS).exists():
        raise ValueError(f"output: {folder} holds files of something else; name a new folder")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened: BinaryIO = (folder / ANSWERS).open("a+b", buffering=0)
    except OSError as error:
        raise ValueError(f"output: {folder} cannot be written ({error.strerror}); name another folder") from None
    with opened as file, ExitStack() as held:
        try:
            alone = held.enter_context(hold_lock(file))
        except OSError as error:
            raise ValueError(f"output: {folder} cannot be locked ({error.strerror}); name another folder") from None
        if not alone:
            raise ValueError(f"output: {folder} is being written by another process")
        yield file


def _read_lines(file: BinaryIO, folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; what follows them is taken away."""
    file.seek(0)
    data = file.read()
    whole, _, torn = data.rpartition(b"\n")
    file.truncate(len(data) - len(torn))
    found = []
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not (isinstance(line, dict) and _is_line(line, number)):
            raise ValueError(f"output: {folder}: line {number} of {ANSWERS} is damaged; name another folder")
        found.append(line)
    return found


def _is_line(line: Mapping[str, Any], number: int) -> bool:
    return line.keys() >= (LINE if number > 1 else {"plan"}) or (number > 1 and line.keys() == REASONS)


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what two plans differ; empty if they do not."""
    for name in {**now, **then}:
        if then.get(name) != now.get(name):
            return f"{name} was {_short(then.get(name))} there and is {_short(now.get(name))} here"
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _append(file: BinaryIO, line: Mapping[str, Any]) -> None:
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())
