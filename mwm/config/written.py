"""Plain scalars of a file: what was written, and the number, flag or nothing that it stands for."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

FRACTION = re.compile(r"[-+]?\d+(\.\d+)?/\d+(\.\d+)?")
NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?")
INTEGER = re.compile(r"[-+]?\d[\d_]*")

CONSTANTS = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "Null": None,
    "~": None,
    "": None,
}
"""What is no word; `no`, `on` and `none` are words."""

SHORT = 8
"""A number of at most so many characters is told as it is."""


class Written:
    """A scalar written without quotes that is not just a word: its text, for who asks for text, and its value."""

    text: str
    value: Any

    def __repr__(self) -> str:
        return self.text

    def __reduce__(self) -> Any:
        return plain, (self.value,)


class WrittenInt(Written, int):
    """A whole number that knows how it was written: `0012`."""

    def __new__(cls, text: str) -> WrittenInt:
        """The number that `text` says."""
        made = super().__new__(cls, text)
        made.text, made.value = text, int(made)
        return made


class WrittenFloat(Written, float):
    """A number that knows how it was written: `3/255`."""

    def __new__(cls, text: str) -> WrittenFloat:
        """The number that `text` says; ZeroDivisionError for a fraction of zero."""
        over, _, under = text.replace("_", "").partition("/")
        made = super().__new__(cls, float(over) / float(under or 1))
        made.text, made.value = text, float(made)
        return made


class WrittenConstant(Written):
    """A flag, or nothing."""

    def __init__(self, text: str) -> None:
        self.text, self.value = text, CONSTANTS[text]


def read_scalar(text: str) -> Written | str:
    """What is written without quotes: a number, a flag or nothing, with its text; anything else is that text."""
    if text in CONSTANTS:
        return WrittenConstant(text)
    try:
        if INTEGER.fullmatch(text):
            return WrittenInt(text)
        if NUMBER.fullmatch(text) or FRACTION.fullmatch(text):
            return WrittenFloat(text)
    except (ValueError, ZeroDivisionError):  # too many digits for Python, or a division by zero
        pass
    return text


def plain(tree: Any) -> Any:
    """A tree with the value of all that is written in it."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree.value if isinstance(tree, Written) else tree


def number_text(value: float) -> str:
    """A number as people write it: short ones as they are, else as k/255 or another fraction where that is exact."""
    text = repr(value)
    if len(text) <= SHORT or abs(value) > SHORT:
        return text
    levels = round(value * 255, 2)
    if levels / 255 == value:
        return f"{levels:g}/255"
    near = Fraction(value).limit_denominator(1000)
    return str(near) if near.numerator / near.denominator == value else text
