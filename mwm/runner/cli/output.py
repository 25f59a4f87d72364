"""Where a command writes: streams that take every sign, and whose failure ends nothing."""

from __future__ import annotations

import codecs
import errno
import os
import sys
import unicodedata
from io import BufferedWriter, FileIO, TextIOWrapper
from select import select
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PLAIN = str.maketrans(
    {
        **{"−": "-", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "×": "x", "·": "*", "±": "+/-", "→": "->", "≈": "~"},
        **{"─": "-", "━": "-", "│": "|", "┃": "|", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "⁄": "/"},
    }
)
"""What stands for a sign of ours where an encoding has none."""

HANDLER = "mwm-plain"

GONE = (errno.EPIPE, errno.EIO)
"""What the system says when a reader of a pipe, or a terminal, has gone."""


class Sink(FileIO):
    """A standard stream that goes on in silence when it cannot be written any more.

    `lost` is why. It is told once on `errors`; that a reader has gone, as `head` does, is told only if `tell_gone`.
    """

    lost: OSError | None = None
    errors: TextIO | None = None
    tell_gone = False
    _told = False

    def write(self, content: ReadableBuffer, /) -> int:
        """Write bytes, or nothing at all; how many there were."""
        while self.lost is None:
            try:
                if (written := super().write(content)) is not None:
                    return written
                select([], [self], [])  # it does not block, and is full
            except OSError as error:
                self.lost = error
        self._tell(self.lost)
        return memoryview(content).nbytes

    @property
    def failed(self) -> bool:
        """Whether something could not be written, though there is somebody who reads."""
        return self._told and self.lost is not None and self.lost.errno not in GONE

    def _tell(self, error: OSError) -> None:
        if not self._told and self.errors and (self.tell_gone or error.errno not in GONE):
            what = "nobody reads it any more" if error.errno in GONE else f"cannot be written ({error.strerror})"
            print(f"stdout: {what}; nothing more is shown", file=self.errors)
        self._told = True


def protect_output() -> Sink:
    """Put streams that cannot fail in the place of stdout and stderr; the result is what stdout writes to."""
    codecs.register_error(HANDLER, _plain)
    _, stdout, stderr = [_sink(number) for number in range(3)]
    sys.stdout, sys.stderr = _text(stdout, sys.stdout), _text(stderr, sys.stderr)
    stdout.errors = sys.stderr  # whatever stands in its place later may write to stdout, as a live display does
    return stdout


def _sink(number: int) -> Sink:
    """What a standard stream writes to. One that is closed is held open, or a file opened later would be in its place.

    In their order, since the lowest free number is given to what is opened.
    """
    closed = None
    try:
        os.fstat(number)
    except OSError:
        closed = OSError(errno.EBADF, "it is closed")
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sink = Sink(number, "w", closefd=False)
    sink.lost = closed
    return sink


def _text(sink: Sink, stream: TextIO | None) -> TextIOWrapper:
    live = sink.fileno() == 2 or sink.isatty()
    encoding = stream.encoding if stream is not None else "utf-8"
    return TextIOWrapper(BufferedWriter(sink), encoding=encoding, errors=HANDLER, line_buffering=live)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for signs that an encoding does not have: as much of them as ASCII can show."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(sign: str) -> str:
    known = unicodedata.normalize("NFKD", sign.translate(PLAIN)).translate(PLAIN)
    return "".join(letter for letter in known if letter.isascii()) or "?"
