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

from mwm.verification.null_models import NullAnswers
from mwm.verification.querying.answer_log import Answers
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects.outputs import NO_ANSWER
from mwm.watermarks.key import Key

Labels = NDArray[np.int64]

SHOWN_CELLS, SHOWN_IMAGES = 10, 4
"""How many questions are shown, the first in the order asked, and how many images of each."""

SIDE = 112
"""Pixels that the longer side of a picture has at least, by repeating its own."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Exhibit:
    """What was asked, without further views, and who answered what.

    `answers` are the labels (int64 m, or fewer where asking ended sooner) of each who was asked: one network, or
    several of a kind (k m). `class_names` name the classes, where the data have names.
    """

    asked: OrderedQueries
    answers: Mapping[str, Labels]
    class_names: tuple[str, ...] = ()


def make_exhibit(
    key: Key, asked: OrderedQueries, told: Sequence[Answers], *, control: Answers | None, null: NullAnswers | None
) -> Exhibit:
    """What was asked, and what suspects (`told`), the control and null models answered to it."""
    names = ["suspect"] if len(told) == 1 else [f"suspect {number}" for number in range(1, len(told) + 1)]
    answers = {name: one.labels[asked.plain] for name, one in zip(names, told, strict=True)}
    answers |= {"control": control.labels[asked.plain]} if control is not None else {}
    answers |= {"null models": null.labels} if null is not None else {}
    return Exhibit(asked=asked.without_views(), answers=answers, class_names=key.class_names)


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
    for number in range(min(SHOWN_CELLS, len(asked.cells))):
        first, end = asked.end(number), asked.end(number + 1)
        true, secret = (int(values[number]) for values in (asked.truth, asked.labels))
        name = class_name(true, exhibit.class_names)
        pictures = tuple(
            Picture(
                source=data_address(asked.images[place]),
                alt=f"Picture {place - first + 1} of question {number + 1}; its true class is {name}",
                answers=tuple(_answers(exhibit, place, true, secret)),
            )
            for place in range(first, min(end, first + SHOWN_IMAGES))
        )
        yield Question(number + 1, name, class_name(secret, exhibit.class_names), end - first, pictures)


def class_name(label: int, names: tuple[str, ...]) -> str:
    """A class by its name, or by its number where there are none."""
    return names[label] if 0 <= label < len(names) else f"class {label}"


def _answers(exhibit: Exhibit, place: int, true: int, secret: int) -> Iterator[tuple[str, str]]:
    """Who gave which class to an image, and what that is; of several networks, how many did."""
    marks = {true: " (true)", secret: " (secret)"}
    for who, said in exhibit.answers.items():
        labels = said[..., place : place + 1].ravel().tolist()
        told = [f"{_said(one, exhibit)}{marks.get(one, '')}" for one in labels]
        ranked = Counter(told).most_common()
        several = ", ".join(f"{one}: {count}" for one, count in ranked)
        yield who, several if said.ndim > 1 else (told or ["not asked"])[0]


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
