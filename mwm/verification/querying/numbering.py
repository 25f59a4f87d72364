"""The classes of a suspect in the numbers of a key: by names, by another order, or counted from 1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.verification.suspects.names import RANKED
from mwm.verification.suspects.outputs import NO_CLASS, Outputs, Presentable
from mwm.verification.suspects.presentation import InputFormat
from mwm.verification.verdict import KEYS_OWN

TEXT, NUMBER, FROM_ONE = "text", "number", "from-1"
COUNTED = re.compile(r"(?:label_)?(\d{1,9})")
"""A name that is a number, as it stands or as libraries make it up."""


@dataclass(frozen=True)
class Numbering:
    """Which class of the key a suspect means.

    `order` says it for each class of the suspect, by its number: NO_CLASS where the key has no such class. `names` are
    those of the key's `classes`, if there are any. The suspect's first label is the number `first`.
    """

    classes: int
    order: tuple[int, ...]
    names: tuple[str, ...] = ()
    first: int = 0

    @property
    def usual(self) -> bool:
        """Whether the suspect counts as the key does."""
        return self.first == 0 and self.order == tuple(range(self.classes))

    def described(self, own: tuple[str, ...]) -> str:
        """What a plan says of it, if a key has its `own` names: what the suspect calls its classes, in its order."""
        if self.usual:
            return KEYS_OWN if self.names == own else ",".join(self.names)
        if self.first:
            return FROM_ONE
        return ",".join("-" if one < 0 else own[one] if own else str(one) for one in self.order)

    def read(self, said: Outputs, who: str) -> Outputs:
        """Labels (int64 n) or scores (float64 n C) of the key's classes, in whatever form a suspect has answered.

        Raises ValueError, in one line, for names where the key has none.
        """
        if said.dtype == RANKED:
            return self._scores_by_name(said, who)
        if said.dtype.kind == "U":
            return self._numbers(said, who)
        if self.usual:
            return said
        return self._labels(said) if said.ndim == 1 else self._scores(said)

    def _labels(self, said: NDArray[Any]) -> Outputs:
        place = said - self.first
        inside = (place >= 0) & (place < len(self.order))
        return np.where(inside, np.array(self.order)[np.where(inside, place, 0)], NO_CLASS)

    def _scores(self, said: NDArray[Any]) -> Outputs:
        order = np.array(self.order)
        found = np.repeat(_least(said)[:, None], self.classes, axis=1)
        found[:, order[order >= 0]] = said[:, order >= 0]
        return found

    def _scores_by_name(self, said: NDArray[Any], who: str) -> Outputs:
        """Scores by the names that they were given for; in their order, if the key has no names."""
        listed = said["name"] != ""
        if not self.names and listed.sum(1).min() >= self.classes and not _counted(said["name"][listed]):
            return self.read(said["score"][:, : len(self.order)], who)
        numbers = self._numbers(said["name"][listed], who)
        least = np.array([_least(row["score"][row["name"] != ""][None])[0] for row in said])
        found = np.repeat(least[:, None], self.classes, axis=1)
        rows, known = listed.nonzero()[0], numbers >= 0
        found[rows[known], numbers[known]] = said["score"][listed][known]
        return found

    def _numbers(self, names: NDArray[Any], who: str) -> NDArray[np.int64]:
        if not self.names and not _counted(names):
            hint = "say by --classes, or classes= in Python, how its classes are called, in their order in the key"
            raise ValueError(f"{who}: answers with names such as {str(names[0])!r}, and the key has none: {hint}")
        return np.array([self._number(str(name)) for name in names], np.int64)

    def _number(self, name: str) -> int:
        if name in self._known:
            return self._known[name]
        if _normal(name) in self._known:
            return self._known[_normal(name)]
        found = COUNTED.fullmatch(name.strip().lower())
        number = int(found[1]) - self.first if found else NO_CLASS
        return self.order[number] if 0 <= number < len(self.order) else NO_CLASS

    @cached_property
    def _known(self) -> dict[str, int]:
        """The number of each name, and of what it is without regard to case, blanks and dashes if that is unique."""
        normal = [_normal(name) for name in self.names]
        alike = {name: place for place, name in enumerate(normal) if normal.count(name) == 1}
        return alike | {name: place for place, name in enumerate(self.names)}


def parse_numbering(said: str | None, classes: int, names: Sequence[str] = ()) -> Numbering:
    """The numbering that `--classes` asks for; ValueError, in one line, for what is none.

    A comma list, or a file with one on each line, names the key's classes in the suspect's order, by name or number.
    Names that are all unknown are what the suspect calls the classes, in the key's order. "text" sorts names or numbers
    as text, "number" as numbers, and "from-1" counts labels from 1.
    """
    own, usual = tuple(names), tuple(range(classes))
    if said is None or said == FROM_ONE:
        return Numbering(classes, usual, own, first=int(said == FROM_ONE))
    if said in (TEXT, NUMBER):
        return Numbering(classes, sorted_order(said, classes, own), own)
    listed = _listed(said)
    if len(set(listed)) < len(listed):
        twice = next(one for one in listed if listed.count(one) > 1)
        raise ValueError(f"classes: {twice!r} is named twice; allowed: each class once")
    counted = all(one.isdecimal() for one in listed)
    if len(listed) == classes and not counted and not set(listed) & set(own):
        return Numbering(classes, usual, tuple(listed))
    known = own if not counted or set(listed) <= set(own) else tuple(map(str, usual))
    order = tuple(known.index(one) if one in known else NO_CLASS for one in listed)
    if not set(usual) <= set(order):
        shown = ", ".join(own[:5]) + ", ..." * (len(own) > 5) if own else f"0 to {classes - 1}"
        allowed = f"each of the key's {classes} classes ({shown}), a file of them, {TEXT}, {NUMBER} or {FROM_ONE}"
        raise ValueError(f"classes: {said[:80]!r} is not allowed; allowed: {allowed}")
    return Numbering(classes, order, own)


def sorted_order(how: str, classes: int, names: Sequence[str] = ()) -> tuple[int, ...]:
    """The key's classes as a suspect counts that has sorted their names, or numbers, as text or as numbers."""
    called = list(names) or list(map(str, range(classes)))
    if how == TEXT:
        return tuple(sorted(range(classes), key=called.__getitem__))
    if not names:  # then the key's own numbers are taken for places among numbers that were sorted as text
        return tuple(sorted(called).index(one) for one in called)
    if not all(one.isdecimal() for one in called):
        raise ValueError(
            f"classes: {NUMBER} is not allowed: {called[0]!r} is no number; allowed: names that are numbers"
        )
    return tuple(sorted(range(classes), key=lambda place: int(called[place])))


@dataclass(frozen=True)
class Way:
    """A way to ask a suspect: how images are shown to it, and how its classes are counted."""

    presentation: InputFormat
    numbering: Numbering


@dataclass(frozen=True, eq=False)
class NumberedSuspect:
    """A suspect whose answers are told in the numbers of the key."""

    suspect: Presentable
    numbering: Numbering

    @property
    def name(self) -> str:
        """Its address."""
        return self.suspect.name

    @property
    def access(self) -> str:
        """How it is at hand."""
        return self.suspect.access

    @property
    def identity(self) -> str:
        """What tells it from any other."""
        return self.suspect.identity

    @property
    def most(self) -> int | None:
        """How many images it takes at a time, if that is known."""
        return getattr(self.suspect, "most", None)

    @property
    def presentation(self) -> InputFormat:
        """How images are shown to it."""
        return self.suspect.presentation

    def shown(self, presentation: InputFormat) -> NumberedSuspect:
        """The same suspect, asked in another way."""
        return NumberedSuspect(self.suspect.shown(presentation), self.numbering)

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Labels (int64, n) or scores (float64, n C) of images (uint8, n c h w)."""
        return self.numbering.read(self.suspect(images), self.name)


def _listed(said: str) -> list[str]:
    """What a comma list holds, or the lines of a file."""
    try:
        text = Path(said).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"classes: {said[:80]} cannot be read ({error.reason}); allowed: a file in UTF-8") from None
    except (OSError, ValueError):  # there is no such file, or no file can have such a name
        text = said.split(",")
    return [one.strip() for one in text if one.strip()] or [said]


def _normal(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _counted(names: NDArray[Any]) -> bool:
    """Whether all names are numbers."""
    return all(COUNTED.fullmatch(str(name).strip().lower()) for name in names)


def _least(scores: NDArray[Any]) -> NDArray[np.float64]:
    """The score of classes that are not listed (n): 0, or below the least of a row if that is negative."""
    least = scores.min(1)
    return np.where(least < 0, least - 1, 0.0)
