"""Requests over HTTP: one after the other, each with a deadline, repeated when what failed may pass."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from mwm.storage.redaction import MAX_REASON_CHARS, describe_error, redact_url, redacted_excerpt, root_cause
from mwm.verification.suspects.endpoints.credentials import Credentials
from mwm.verification.suspects.endpoints.reasons import stated_reason
from mwm.verification.suspects.outputs import NoAnswerError

T = TypeVar("T")
DAY = 86400
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before the first repetition, each next pause being twice as long; and at most, whatever a server asks for."""

LONGEST_REASON = 2**16
"""Bytes that are read of what a server says beside a status of failure."""

TOO_MUCH = re.compile(
    r"too (large|big|long|many)|larger than|batch[\s_-]*size|at most \d+ item|exceeds?\b|maximum|out of memory", re.I
)
"""What a server may say that would answer to fewer images."""

JSON = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}


class RefusedError(NoAnswerError):
    """A server refuses for good, and says `said` of it; `too_much` if it would perhaps take fewer images."""

    def __init__(self, who: str, said: str, *, too_much: bool = False) -> None:
        super().__init__(f"{who}: refuses with {said}")
        self.said, self.too_much = said, too_much


class Connection:
    """Whom to ask, and how patiently: see `Endpoint`."""

    def __init__(
        self, name: str, credentials: Credentials, *, proxy: str, timeout: float, retries: int, gap: float
    ) -> None:
        """Ask nothing yet."""
        self._name, self._credentials, self._proxy = name, credentials, proxy
        self._timeout, self._retries = timeout, retries
        self._gap, self._next = gap, 0.0

    def send(self, url: str, body: bytes | None, *, longest: int, divisible: bool = False) -> bytes:
        """The content of a sound answer of `longest` bytes at most, after as many attempts as are allowed.

        Without a body it is a GET. A `divisible` question is not repeated for ever to a server that breaks the
        connection off: that may be its way to say that it is too long.
        """
        fault, breaks = None, 0
        for attempt in range(self._retries + 1):
            if fault is not None:
                time.sleep(min(max(FIRST_PAUSE * 2 ** (attempt - 1), fault.retry_after), LONGEST_PAUSE))
            time.sleep(max(self._next - time.monotonic(), 0.0))
            self._next = time.monotonic() + self._gap
            try:
                return _with_deadline(self._timeout, lambda: self._send(url, body, longest))
            except _TransientError as error:
                fault = error
            except TimeoutError:
                fault = _TransientError(f"no answer within {self._timeout:g} s")
            breaks = breaks + 1 if fault.broken else 0
            if divisible and (breaks > 1 or (breaks and attempt == self._retries)):
                raise RefusedError(self._name, f"a connection that it breaks off ({fault})", too_much=True)
        way = f" through the proxy {redact_url(self._proxy)}" if self._proxy else ""
        tried = f"gave no answer in {self._retries + 1} attempt{'s' * (self._retries > 0)}{way}"
        raise NoAnswerError(f"{self._name}: {tried}; the last: {fault}", permanent=False)

    def without_repetition(self) -> Connection:
        """The same, which asks once."""
        other = copy(self)
        other._retries = 0
        return other

    def _send(self, url: str, body: bytes | None, longest: int) -> bytes:
        import requests

        ask: dict[str, Any] = {"timeout": self._timeout, "allow_redirects": False, "stream": True, "data": body}
        ask["headers"] = JSON | {"Authorization": self._credentials.authorization or None}
        ask["proxies"] = dict.fromkeys(("http", "https"), self._proxy) if self._proxy else {}
        ask["verify"] = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        try:
            with requests.Session() as session:
                session.trust_env = False  # it would read ~/.netrc, and find a proxy for this machine, too
                with session.request("GET" if body is None else "POST", url, **ask) as response:
                    return self._content(response, longest)
        except requests.RequestException as error:
            cause = root_cause(error)
            broken = isinstance(cause, ConnectionResetError | BrokenPipeError | ConnectionAbortedError)
            raise _TransientError(describe_error(cause), broken=broken) from error
        except NoAnswerError:
            raise
        except OSError as error:  # certificates that cannot be read
            raise NoAnswerError(f"{self._name}: cannot be asked ({describe_error(error)})") from None

    def _content(self, response: Any, longest: int) -> bytes:
        """What a response holds; else RefusedError, _TransientError or NoAnswerError."""
        if not 200 <= response.status_code < 300:
            self._refuse(response.status_code, response.headers, _beginning(response))
        content = b""
        for part in response.iter_content(2**16):
            content += part
            if len(content) > longest:
                raise NoAnswerError(f"{self._name}: answered with more than {longest} bytes")
        return content

    def _refuse(self, status: int, headers: Any, content: bytes) -> None:
        """Raise what a status other than success means."""
        if 300 <= status < 400:
            aim = redacted_excerpt(redact_url(self._credentials.hide(headers.get("Location", ""))))
            raise NoAnswerError(f"{self._name}: sends on to {aim!r}; no redirect is followed")
        phrase = responses.get(status, "")
        reason = self.reason(stated_reason(content))
        said = f"{status} {phrase}".strip() + (
            f": {reason}" if reason not in ("", phrase, f"{status} {phrase}") else ""
        )
        too_much = status == 413 or (status in (400, 422, 500) and TOO_MUCH.search(reason) is not None)
        if not too_much and (status in (408, 429) or status >= 500):
            raise _TransientError(said, _retry_after(headers.get("Retry-After", "")))
        raise RefusedError(self._name, said, too_much=too_much)

    def reason(self, text: str) -> str:
        """What the server says, fit to be shown."""
        return redacted_excerpt(self._credentials.hide(text), MAX_REASON_CHARS)


class _TransientError(Exception):
    """A fault that may pass, such as a `broken` connection.

    `retry_after`: seconds for which the server asks to be left alone.
    """

    def __init__(self, what: str, retry_after: float = 0.0, *, broken: bool = False) -> None:
        super().__init__(what)
        self.retry_after, self.broken = retry_after, broken


def _beginning(response: Any) -> bytes:
    """What comes first of a response, as far as it comes."""
    from requests import RequestException

    content = b""
    with suppress(RequestException):
        for part in response.iter_content(2**12):
            content += part
            if len(content) > LONGEST_REASON:
                break
    return content


def _retry_after(header: str) -> float:
    """How many seconds a Retry-After asks for: a number, or a date (RFC 9110, section 10.2.3); else 0."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _with_deadline(seconds: float, act: Callable[[], T]) -> T:
    """What `act` returns, or raises, within so many seconds; TimeoutError after that.

    A socket's own timeout begins anew with every byte, so that a server could hold one for ever.
    """
    done: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def work() -> None:
        try:
            done.put((act(), None))
        except Exception as error:
            done.put((None, error))

    Thread(target=work, daemon=True).start()
    try:
        result, error = done.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
