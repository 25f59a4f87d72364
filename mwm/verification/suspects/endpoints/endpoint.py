"""Suspects behind HTTP: MLflow's scoring protocol, and a plain one in JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mwm.storage.redaction import redact_url, redacted_excerpt, root_cause
from mwm.verification.suspects.credentials import auth_hook, bearer_token, split_credentials
from mwm.verification.suspects.identity import address_identity
from mwm.verification.suspects.outputs import PLAIN, NoAnswerError, Outputs, describe_error, parse_outputs

T = TypeVar("T")
DAY = 86400
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before the first repetition, each next pause being twice as long; and at most, whatever a server asks for."""

BASE_BYTES, SCORE_BYTES = 2**20, 100
"""An answer to n images may have BASE_BYTES, and SCORE_BYTES for each of n C scores."""

GREY_LEVELS = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(str).astype(float).astype(object)
"""The 256 grey levels in [0, 1], with as many digits as tell float32 numbers apart."""


class Endpoint:
    """A suspect at an http(s) address; one whose path ends in /invocations speaks MLflow's scoring protocol.

    Each call is one request. What may pass (no connection, no answer in `timeout` seconds, 408, 429, 5xx) is tried
    `retries` times more, after pauses of 0.5, 1, 2, ... seconds or as long as the server asks; all else is final.
    It gets no more than `rate` requests a second, repetitions among them.
    """

    access = "endpoint"

    def __init__(self, address: str, *, classes: int, timeout: float, retries: int, rate: float | None = None) -> None:
        """Ask nothing yet; ValueError if the address cannot be one, or a setting is out of its bounds."""
        if not (0 < timeout <= DAY and retries >= 0):
            allowed = f"up to {DAY} s, 0 and above"
            raise ValueError(f"timeout {timeout}, retries {retries} are not allowed; allowed: {allowed}")
        if not (rate is None or rate * DAY >= 1):
            raise ValueError(f"rate {rate} is not allowed; allowed: {1 / DAY:.2g} requests a second and above")
        self.name = redact_url(address)
        self._url, authorization = _address_and_authorization(address, self.name)
        self.identity = address_identity("endpoint", self._url, authorization)
        self._auth = auth_hook(authorization)
        self._gap, self._next = 1 / rate if rate else 0.0, 0.0
        self._mlflow = urlsplit(self._url).path.rstrip("/").endswith("/invocations")
        self._classes, self._timeout, self._retries = classes, timeout, retries

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Labels (int64, n) or scores (float64, n C) of images (uint8, n c h w)."""
        question = {"inputs" if self._mlflow else "images": GREY_LEVELS[images].tolist()}
        longest = BASE_BYTES + SCORE_BYTES * len(images) * self._classes
        return self._read(self._post_with_retries(json.dumps(question).encode(), longest), len(images))

    def _read(self, content: bytes, count: int) -> Outputs:
        """What an answer says, in the protocol of this endpoint."""
        try:
            came = json.loads(content)
        except (ValueError, RecursionError):
            raise NoAnswerError(f"{self.name}: answered with {len(content)} bytes that are no JSON") from None
        key = next((key for key in PLAIN if isinstance(came, dict) and key in came), "")
        if not (self._mlflow or key):
            raise NoAnswerError(f"{self.name}: answered with none of {', '.join(PLAIN)}")
        found = parse_outputs(came[key] if key else came, count=count, classes=self._classes, who=self.name)
        if found.ndim != PLAIN.get(key, found.ndim):
            raise NoAnswerError(f"{self.name}: answered with {key} of shape {found.shape}")
        return found

    def _post_with_retries(self, body: bytes, longest: int) -> bytes:
        """The content of a sound answer, after as many attempts as are allowed."""
        fault = None
        for attempt in range(self._retries + 1):
            if fault is not None:
                time.sleep(min(max(FIRST_PAUSE * 2 ** (attempt - 1), fault.retry_after), LONGEST_PAUSE))
            time.sleep(max(self._next - time.monotonic(), 0.0))
            self._next = time.monotonic() + self._gap
            try:
                return _with_deadline(self._timeout, lambda: self._post(body, longest))
            except _TransientError as error:
                fault = error
            except TimeoutError:
                fault = _TransientError(f"no answer within {self._timeout:g} s")
        tried = f"gave no answer in {self._retries + 1} attempts"
        raise NoAnswerError(f"{self.name}: {tried}; the last: {fault}", permanent=False)

    def _post(self, body: bytes, longest: int) -> bytes:
        import requests

        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        options: dict[str, Any] = {"timeout": self._timeout, "allow_redirects": False, "stream": True}
        try:
            with requests.post(self._url, body, headers=headers, auth=self._auth, **options) as response:
                self._check(response.status_code, response.headers)
                content = b""
                for part in response.iter_content(2**16):
                    content += part
                    if len(content) > longest:
                        raise NoAnswerError(f"{self.name}: answered with more than {longest} bytes")
                return content
        except requests.RequestException as error:
            raise _TransientError(describe_error(root_cause(error))) from error

    def _check(self, status: int, headers: Any) -> None:
        said = f"{status} {responses.get(status, '')}".strip()
        if 300 <= status < 400:
            aim = redacted_excerpt(redact_url(headers.get("Location", "")))
            raise NoAnswerError(f"{self.name}: sends on to {aim!r}; no redirect is followed")
        if status in (408, 429) or status >= 500:
            raise _TransientError(said, _retry_after(headers.get("Retry-After", "")))
        if not 200 <= status < 300:
            raise NoAnswerError(f"{self.name}: refuses with {said}")


class _TransientError(Exception):
    """A fault that may pass; `retry_after`: seconds for which the server asks to be left alone."""

    def __init__(self, what: str, retry_after: float = 0.0) -> None:
        super().__init__(what)
        self.retry_after = retry_after


def _address_and_authorization(address: str, name: str) -> tuple[str, str]:
    """The address that is asked, and the Authorization for it, if any; ValueError, in one line, if it is no address."""
    from requests import Request

    try:
        url, authorization = split_credentials(address)
        Request("POST", url).prepare()
    except ValueError:
        hint = "write / : @ ? # in a password as %2F %3A %40 %3F %23"
        raise ValueError(f"{name}: is no usable address; {hint}") from None
    return url, authorization or bearer_token(url)


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
