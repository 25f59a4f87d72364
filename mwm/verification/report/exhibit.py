"""Some questions of a key as pictures, with what was answered to them: whoever sees them knows that part of the key."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mwm.verification.querying.answer_log import Answers
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects.outputs import NO_ANSWER
from mwm.watermarks.key import Key

Labels = NDArray[np.int64]

SHOWN_QUERIES, SHOWN_CELLS, SHOWN_IMAGES = 10, 4, 3
"""How many questions are shown, the first in the order asked: fewer of several images, and so many images of each."""

SIDE = 112
"""Pixels that the longer side of a picture has at least, by repeating its own."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Exhibit:
    """What was asked, without further views, and who answered what.

    `answers` are those of each network that was asked (m, or fewer where asking ended sooner), `null` the labels of
    several null models (int64 k m). `class_names` name the classes, where the data have names.
    """

    asked: OrderedQueries
    answers: Mapping[str, Answers]
    null: Labels | None
    class_names: tuple[str, ...] = ()


def make_exhibit(
    key: Key, asked: OrderedQueries, told: Sequence[Answers], *, control: Answers | None, null: Labels | None
) -> Exhibit:
    """What was asked, and what suspects (`told`), the control and null models (labels k m) answered to it."""
    shown = dict(zip(suspect_names(len(told)), told, strict=True)) | ({} if control is None else {"control": control})
    answers = {name: one.part(asked.plain) for name, one in shown.items()}
    return Exhibit(asked=asked.without_views(), answers=answers, null=null, class_names=key.class_names)


def suspect_names(count: int) -> list[str]:
    """What so many suspects are called where their own names are too long."""
    return ["suspect"] if count == 1 else [f"suspect {number}" for number in range(1, count + 1)]


@dataclass(frozen=True)
class Picture:
    """An image of a question as a data address, what it shows in words, and the answers of all who were asked."""

    source: str
    alt: str
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Question:
    """A cell of the key: its true and its secret class by name, and some of its pictures, of so many (`total`)."""

    number: int
    true: str
    secret: str
    total: int
    pictures: tuple[Picture, ...]


def show_questions(exhibit: Exhibit) -> Iterator[Question]:
    """The first questions that anybody was asked."""
    asked = exhibit.asked
    most = SHOWN_QUERIES if len(asked) == len(asked.cells) else SHOWN_CELLS
    for number in range(min(most, len(asked.cells))):
        first, end = asked.end(number), asked.end(number + 1)
        true, secret = (int(values[number]) for values in (asked.truth, asked.labels))
        name = class_name(true, exhibit.class_names)
        pictures = tuple(
            Picture(
                source=data_address(asked.images[place]),
                alt=f"Picture {place - first + 1} of question {number + 1}; its true class is {name}",
                answers=tuple(_answers(exhibit, place, true=true, secret=secret)),
            )
            for place in range(first, min(end, first + SHOWN_IMAGES))
        )
        yield Question(number + 1, name, class_name(secret, exhibit.class_names), end - first, pictures)


def class_name(label: int, names: tuple[str, ...]) -> str:
    """A class by its name, or by its number where there are none."""
    return names[label] if 0 <= label < len(names) else f"class {label}"


def _answers(exhibit: Exhibit, place: int, *, true: int, secret: int) -> Iterator[tuple[str, str]]:
    """Who gave which class to an image, and what that is; after a true one, the best of the wrong classes, too."""
    marks = {true: " (true)", secret: " (secret)"}

    def told(label: int) -> str:
        return f"{_said(label, exhibit)}{marks.get(label, '')}"

    for who, one in exhibit.answers.items():
        if place >= len(one):
            yield who, "not asked"
            continue
        first = int(one.labels[place])
        then = "" if one.scores is None or first != true else f", then {told(_second(one.scores[place], true))}"
        yield who, f"{told(first)}{then}"
    if exhibit.null is not None:
        ranked = Counter(map(told, exhibit.null[:, place].tolist())).most_common()
        yield "null models", ", ".join(f"{count} × {one}" for one, count in ranked)


def _second(scores: NDArray[np.float64], true: int) -> int:
    """The class with the best score (C) but for the true one."""
    best = int(np.delete(scores, true).argmax())
    return best + (best >= true)


def _said(label: int, exhibit: Exhibit) -> str:
    if label == NO_ANSWER:
        return "no answer"
    known = class_name(label, exhibit.class_names)
    return known if 0 <= label < exhibit.asked.classes else f"{label}, no class of the key"


def data_address(image: NDArray[np.uint8]) -> str:
    """An image (c h w) as the address of a PNG that holds it, enlarged with hard pixels."""
    times = max(1, -(-SIDE // max(image.shape[1:])))
    large = image.repeat(times, axis=1).repeat(times, axis=2)
    file = io.BytesIO()
    Image.fromarray(large[0] if len(large) == 1 else large.transpose(1, 2, 0)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
