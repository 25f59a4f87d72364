"""A suspect that is asked in a process of its own: what its code does there touches nothing here."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.storage.redaction import MAX_REASON_CHARS, redacted_excerpt
from mwm.verification.suspects.endpoints.credentials import TOKEN
from mwm.verification.suspects.isolated.protocol import Message, packed, receive
from mwm.verification.suspects.outputs import FORMS, NoAnswerError, Outputs, parse_outputs
from mwm.verification.suspects.presentation import InputFormat

START_SECONDS = 300.0
"""How long the process may take to begin, before any code of the suspect's runs."""

USUAL_SECONDS = 30.0
"""How long an answer may take."""

OPENING = 10
"""How much longer than an answer it may take to open a suspect."""

LOOK_SECONDS = 0.1
"""How often time and memory are looked at."""

LAST_WORDS = 4096
"""Bytes that are kept of what a suspect prints."""

GIB = 2**30


def default_memory() -> float:
    """GiB that a suspect may take: half of this machine's, 8 at most."""
    return min(8.0, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB / 2)


class Limits:
    """What the process of a suspect may take: seconds for an answer, and GiB of memory; None for what is usual."""

    def __init__(self, seconds: float | None, memory: float | None) -> None:
        self.seconds, self.memory = seconds or USUAL_SECONDS, memory or default_memory()


class _EndedError(Exception):
    """A process that answers no more, and why."""


class _Process:
    """The process of a suspect, which is ended together with all that it started, at the latest with this object."""

    def __init__(self, form: str, limits: Limits) -> None:
        self._limits, self._words = limits, b""
        folder = mkdtemp(prefix="mwm-suspect-")
        self._socket, theirs = socket.socketpair()
        root = str(Path(__file__).parents[4])
        hidden = {name: value for name, value in os.environ.items() if name != TOKEN}
        places = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.child", form, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**hidden, "PYTHONPATH": places, "TMPDIR": folder},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.end = weakref.finalize(self, _end, self._process, self._socket, folder)
        assert self._process.stdout is not None
        self._printed = self._process.stdout.fileno()
        os.set_blocking(self._printed, False)
        self._receive(START_SECONDS, 0)

    def request(self, header: dict[str, Any], content: bytes = b"", *, seconds: float, longest: int) -> Message:
        """What it says to a message; the bytes beside it may be `longest`. _EndedError if it says nothing."""
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(packed(header, content))
        except TimeoutError:
            raise self._late(seconds) from None
        except OSError:
            raise self._dead() from None
        return self._receive(seconds, longest)

    def _receive(self, seconds: float, longest: int) -> Message:
        end = time.monotonic() + seconds

        def read(count: int) -> bytes:
            came = bytearray()
            while len(came) < count:
                came += self._some(count - len(came), end, seconds)
            return bytes(came)

        try:
            return receive(read, longest)
        except (ValueError, RecursionError) as error:
            self.end()
            raise _EndedError(f"said what is no answer ({redacted_excerpt(str(error))})") from None

    def _some(self, count: int, end: float, seconds: float) -> bytes:
        """Some of the next bytes."""
        self._socket.settimeout(LOOK_SECONDS)
        while True:
            self._listen()
            try:
                if came := self._socket.recv(min(count, 2**20)):
                    return came
            except TimeoutError:
                if _memory(self._process.pid) > self._limits.memory * GIB:
                    self.end()
                    limit = f"{self._limits.memory:.3g} GiB of memory (--memory-limit)"
                    raise _EndedError(f"took more than {limit}") from None
                if time.monotonic() > end:
                    raise self._late(seconds) from None
                if self._process.poll() is None:  # if not, a process of its own may hold its end of the socket
                    continue
            except OSError:
                pass
            raise self._dead()

    def _listen(self) -> None:
        """Keep the end of what it has printed."""
        with suppress(BlockingIOError):
            while said := os.read(self._printed, 2**16):
                self._words = (self._words + said)[-LAST_WORDS:]

    def _late(self, seconds: float) -> _EndedError:
        self.end()
        return _EndedError(f"gave no answer within {seconds:g} s (--timeout)")

    def _dead(self) -> _EndedError:
        """Why a process is gone, or listens no more."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._listen()
        status = self._process.returncode
        self.end()
        if status is None:
            how = "has closed its connection"
        elif status < 0:
            how = f"was ended by {signal.Signals(-status).name}" + ", perhaps for want of memory" * (status == -9)
        else:
            how = f"ended with status {status}"
        return _EndedError(f"its process {how} without an answer{self._last_words()}")

    def _last_words(self) -> str:
        lines = self._words.decode(errors="replace").split("\n")
        last = redacted_excerpt(next(filter(str.strip, reversed(lines)), ""))
        return f"; its last words: {last}" * bool(last)


def _end(process: subprocess.Popen[bytes], connection: socket.socket, folder: str) -> None:
    """End a process and its group, and remove what it left in its temporary folder."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    connection.close()
    if process.stdout is not None:
        process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)


def _memory(group: int) -> int:
    """Bytes that the processes of a group have in main memory; 0 where the system does not tell."""
    found = 0
    for name in filter(str.isdecimal, os.listdir("/proc")) if Path("/proc/self/stat").exists() else ():  # noqa: PTH208 - a tenth of the time
        with suppress(OSError):
            words = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
            found += int(words[21]) if int(words[2]) == group else 0
    return found * os.sysconf("SC_PAGE_SIZE")


class _Session:
    """A suspect of some form in a process, which begins anew after it was ended; `options` are its opener's."""

    def __init__(self, form: str, address: str, *, limits: Limits, **options: Any) -> None:
        self._form, self._address, self._limits, self._options = form, address, limits, options
        self._process: _Process | None = None

    def begin(self) -> dict[str, Any]:
        """Start the process and let it open the suspect; what it says of it."""
        here = str(Path.cwd())
        told = {
            "address": self._address,
            "options": self._options,
            "path": [*sys.path, *[here] * (here not in sys.path)],
        }
        return self._said(told, b"", seconds=OPENING * self._limits.seconds, longest=0)[0]

    def ask(self, header: dict[str, Any], content: bytes, longest: int) -> Message:
        """What the suspect says; NoAnswerError or ValueError if it says nothing, or that something is wrong."""
        if self._process is None:
            self.begin()
        return self._said(header, content, seconds=self._limits.seconds, longest=longest)

    def _said(self, header: dict[str, Any], content: bytes, *, seconds: float, longest: int) -> Message:
        try:
            self._process = self._process or _Process(self._form, self._limits)
            said, answer = self._process.request(header, content, seconds=seconds, longest=longest)
        except _EndedError as error:
            self._process = None
            raise NoAnswerError(f"{self._address}: {error}") from None
        if "error" in said:
            reason = redacted_excerpt(str(said["error"]), 2 * MAX_REASON_CHARS)
            raise NoAnswerError(reason) if said.get("silent") else ValueError(reason)
        return said, answer


@dataclass(frozen=True, eq=False, slots=True)
class IsolatedSuspect:
    """A suspect that runs in the process of a session, and gets images as `presentation` shows them."""

    name: str
    access: str
    identity: str
    classes: int
    presentation: InputFormat
    _session: _Session

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Labels (int64, n) or scores (float64, n C) of images (uint8, n c h w)."""
        count, classes = len(images), self.classes
        asked = {"shape": images.shape, "presentation": asdict(self.presentation)}
        longest = max(kind.itemsize for kind in FORMS.values()) * count * classes
        said, content = self._session.ask(asked, images.tobytes(), longest=longest)
        kind = FORMS.get(str(said.get("form")), np.dtype(np.void))
        shape = (count,) if said.get("form") in ("labels", "names") else (count, classes)
        if list(shape) != said.get("shape") or len(content) != kind.itemsize * math.prod(shape):
            raise NoAnswerError(f"{self.name}: said what is no answer")
        found = np.frombuffer(content, kind).reshape(shape)
        return parse_outputs(found, count=count, classes=classes, who=self.name)

    def shown(self, presentation: InputFormat) -> IsolatedSuspect:
        """The same suspect, asked in another way."""
        return replace(self, presentation=presentation)


def open_isolated(
    form: str, address: str, *, limits: Limits, identify: Callable[[], str], presentation: InputFormat, **options: Any
) -> IsolatedSuspect:
    """Open a suspect in a process of its own; ValueError, in one line, if it cannot be opened.

    `options` are those of the form's opener. `identify` tells who it is, once it has been opened.
    """
    session = _Session(form, address, limits=limits, presentation=asdict(presentation), **options)
    try:
        access = str(session.begin().get("access"))
    except NoAnswerError as error:
        raise ValueError(str(error)) from None
    return IsolatedSuspect(address, access, identify(), options["classes"], presentation, session)
