"""Suspects behind HTTP."""

from __future__ import annotations

import json
import re
from copy import copy
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mwm.storage.redaction import redact_url, redacted_excerpt
from mwm.verification.suspects.endpoints.credentials import Credentials, UnusableAddressError, find_credentials
from mwm.verification.suspects.endpoints.protocols import (
    KSERVE,
    OUTPUTS,
    KserveInput,
    body,
    choose_protocol,
    flat_table,
    unwrap,
)
from mwm.verification.suspects.endpoints.proxies import proxy_of
from mwm.verification.suspects.endpoints.reasons import reason_in
from mwm.verification.suspects.endpoints.transport import DAY, Connection, RefusedError
from mwm.verification.suspects.identity import address_identity
from mwm.verification.suspects.names import NAME
from mwm.verification.suspects.outputs import PLAIN, NoAnswerError, Outputs, parse_outputs
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat

BASE_BYTES, SCORE_BYTES = 2**20, 100
"""An answer to n images may have BASE_BYTES, and SCORE_BYTES for each of n C scores."""

DOUBLE = re.compile(r"(?=.*\b(double|float64)\b).*\b(float|float32)\b", re.IGNORECASE)
"""What PyTorch says of a network in float32 that was given float64."""

NO_SIGNATURE = (
    "its network takes float32, and MLflow's server gives float64 to a model without a signature: its owner may log "
    "it with one (mlflow.models.infer_signature), and you may ask models:/... in its place"
)


class Endpoint:
    """A suspect at an http(s) address, in the protocol that was named or that its path tells.

    Each request holds as many images as the server takes, as far as is known. What may pass (no connection, no answer
    in `timeout` seconds, 408, 429, 5xx) is tried `retries` times more, after pauses of 0.5, 1, 2, ... seconds or as
    long as the server asks; all else is final. It gets no more than `rate` requests a second, repetitions among them.

    `notes` say what a reader of a verdict has to know of the way to it. `most` is how many images it takes at a time,
    None as long as it took all.
    """

    access = "endpoint"

    def __init__(
        self,
        address: str,
        *,
        classes: int,
        timeout: float = 30.0,
        retries: int = 5,
        rate: float | None = None,
        protocol: str | None = None,
        presentation: InputFormat = UNIT_RANGE,
    ) -> None:
        """Ask nothing yet; ValueError if the address cannot be one, or a setting is out of its bounds."""
        if not (0 < timeout <= DAY and retries >= 0):
            allowed = f"up to {DAY} s, 0 and above"
            raise ValueError(f"timeout {timeout}, retries {retries} are not allowed; allowed: {allowed}")
        if not (rate is None or rate * DAY >= 1):
            raise ValueError(f"rate {rate} is not allowed; allowed: {1 / DAY:.2g} requests a second and above")
        self.name = redact_url(address)
        credentials = _usable_credentials(address, self.name)
        self._protocol = choose_protocol(credentials.url, protocol)
        proxy = proxy_of(credentials.url)
        self.identity = _identity(credentials, protocol, proxy)
        self.notes = (f"{self.name} was asked through the proxy {redact_url(proxy)}",) * bool(proxy)
        self.most: int | None = None
        gap = 1 / rate if rate else 0.0
        self._connection = Connection(self.name, credentials, proxy=proxy, timeout=timeout, retries=retries, gap=gap)
        self._url, self._classes = _inference_url(credentials.url, self._protocol), classes
        self._kserve: KserveInput | None = None
        self._flat = False
        self.presentation = presentation

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Labels (int64, n) or scores (float64, n C) of images (uint8, n c h w)."""
        parts: list[Outputs] = []
        done = 0
        while done < len(images):
            some = images[done : done + (self.most or len(images))]
            try:
                parts.append(self._ask(some))
                done += len(some)
            except RefusedError as refusal:
                if not refusal.too_much:
                    raise
                if len(some) == 1:
                    sent = f"one image ({len(self._question(some))} bytes)"
                    raise NoAnswerError(f"{self.name}: refuses {sent} with {refusal.said}") from None
                self.most = len(some) // 2
        if len({part.ndim for part in parts}) > 1:
            raise NoAnswerError(f"{self.name}: answered with labels to some images and with scores to others")
        return np.concatenate(parts)

    def shown(self, presentation: InputFormat) -> Endpoint:
        """The same endpoint, asked in another way; no request is repeated."""
        other = copy(self)
        other.presentation, other._connection = presentation, self._connection.without_repetition()
        return other

    def _ask(self, images: NDArray[np.uint8]) -> Outputs:
        """The answer to one question; a network in MLflow that cannot take float64 images is asked by a table."""
        try:
            return self._ask_once(images)
        except RefusedError as refusal:
            if self._flat or self._protocol != "mlflow" or not DOUBLE.search(refusal.said):
                raise
            self._flat = True
            try:
                return self._ask_once(images)
            except NoAnswerError:
                self._flat = False
                raise NoAnswerError(f"{refusal}; {NO_SIGNATURE}") from None

    def _ask_once(self, images: NDArray[np.uint8]) -> Outputs:
        longest = BASE_BYTES + SCORE_BYTES * len(images) * self._classes
        told = self._connection.send(self._url, self._question(images), longest=longest, divisible=len(images) > 1)
        return self._read(told, len(images))

    def _question(self, images: NDArray[np.uint8]) -> bytes:
        pixels = self.presentation.as_decimals(images)
        if self._protocol == KSERVE:
            try:
                return json.dumps(self._kserve_input().body(pixels)).encode()
            except ValueError as error:
                raise NoAnswerError(f"{self.name}: {error}") from None
        return json.dumps(flat_table(pixels) if self._flat else body(self._protocol, pixels)).encode()

    def _kserve_input(self) -> KserveInput:
        """What the model takes by its metadata, which is asked for once, and which not every server has."""
        if self._kserve is None:
            try:
                told = self._connection.send(self._url.removesuffix("/infer"), None, longest=BASE_BYTES)
                self._kserve = KserveInput.of(json.loads(told))
            except (RefusedError, json.JSONDecodeError, UnicodeDecodeError):
                self._kserve = KserveInput()
        return self._kserve

    def _read(self, content: bytes, count: int) -> Outputs:
        """What an answer says."""
        try:
            came = json.loads(content)
        except (ValueError, RecursionError):
            raise NoAnswerError(f"{self.name}: answered with {len(content)} bytes that are no JSON") from None
        key, found = unwrap(came)
        if not (isinstance(found, list) and found) and (reason := self._connection.reason(reason_in(came))):
            raise NoAnswerError(f"{self.name}: answered with an error: {reason}")
        if isinstance(found, dict) and not {*NAME, "columns"} & {*found}:
            names = redacted_excerpt(", ".join(found))
            raise NoAnswerError(f"{self.name}: answered with {names or 'nothing'}; needed: one of {', '.join(OUTPUTS)}")
        outputs = parse_outputs(found, count=count, classes=self._classes, who=self.name)
        if outputs.ndim != PLAIN.get(key, outputs.ndim):
            raise NoAnswerError(f"{self.name}: answered with {key} of shape {outputs.shape}")
        return outputs


def _usable_credentials(address: str, name: str) -> Credentials:
    """The address that is asked, and as whom; ValueError, in one line, if it is no address."""
    from requests import Request, RequestException

    try:
        found = find_credentials(address, name)
        Request("POST", found.url).prepare()
    except (UnusableAddressError, RequestException, UnicodeError):
        hint = "write / : @ ? # in a password as %2F %3A %40 %3F %23"
        raise ValueError(f"{name}: is no usable address; {hint}") from None
    return found


def _identity(credentials: Credentials, protocol: str | None, proxy: str) -> str:
    """Of all that decides who answers, and to what; what is not out of the ordinary is left out."""
    more = [f"{name} {value}" for name, value in (("protocol", protocol), ("proxy", proxy)) if value]
    return address_identity("endpoint", credentials.url, credentials.authorization, *more)


def _inference_url(url: str, protocol: str) -> str:
    """Where questions go: a model of the open inference protocol may be named without its last word."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return parts._replace(path=f"{path.removesuffix('/infer')}/infer").geturl() if protocol == KSERVE else url
