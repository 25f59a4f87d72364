"""As whom an endpoint is asked, and what of that must never be shown."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mwm.storage.hosts import is_here
from mwm.storage.redaction import redact

TOKEN = "MWM_SUSPECT_TOKEN"
HOST = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d+)?")
SHORTEST_SECRET = 4
"""Letters from which on a part of an address is worth hiding: a shorter one stands in any text."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The address that is asked, without user and password, and the Authorization that goes with it, if any."""

    url: str
    authorization: str
    secrets: tuple[str, ...]

    def hide(self, text: str) -> str:
        """A text from the server, in which stars stand for all that was sent to it in confidence."""
        for secret in self.secrets:
            text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
        return text


def find_credentials(address: str, name: str) -> Credentials:
    """What an address and the environment say; the token goes to its own host or port, a password goes before it.

    Raises ValueError, in one line without them, if the address, shown by `name`, has no host or a port that is none,
    if the environment says the token otherwise, or if all the way could read what is sent.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UnusableAddressError(str(error)) from None
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if port == 0 or not parts.hostname:
        raise UnusableAddressError("no host")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    basic = b64encode(f"{user}:{password}".encode()).decode() if parts.username is not None else ""
    token = "" if basic else bearer_token(url)
    confided = {f"{name}: its password": basic, f"{TOKEN}:": token, f"{name}: its query": _names_secret(parts.query)}
    for what, said in confided.items():
        if said and parts.scheme.lower() != "https" and not is_here(parts.hostname):
            raise ValueError(f"{what} is not sent to {_host(url)} without encryption; allowed: https, or this machine")
    kept = {basic, token, password, user if basic and not password else "", *_query(parts.query)}
    secrets = sorted({text for one in kept for text in (one, quote(one, safe=""))}, key=len, reverse=True)
    authorization = f"Basic {basic}" if basic else f"Bearer {token}" if token else ""
    return Credentials(url, authorization, tuple(text for text in secrets if len(text) >= SHORTEST_SECRET))


class UnusableAddressError(ValueError):
    """What was given as an address is none."""


def bearer_token(url: str) -> str:
    """The token for the host of an address, or for its port there; empty if there is none."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme.lower()]
    tokens = _tokens()
    return tokens.get(f"{_host(url)}:{port}") or tokens.get(_host(url), "")


def _host(url: str) -> str:
    host = str(urlsplit(url).hostname)
    return f"[{host}]" if ":" in host else host


def _names_secret(query: str) -> bool:
    return redact(query) != query


def _query(query: str) -> Iterator[str]:
    yield query
    yield from (value for _, value in parse_qsl(query))


def _tokens() -> dict[str, str]:
    """The tokens of the environment by the host, or host and port, that each is for."""
    said = os.environ.get(TOKEN, "").split()
    pairs = [(host.lower(), token) for host, _, token in (pair.partition("=") for pair in said)]
    for host, token in pairs:
        if not (HOST.fullmatch(host) and token.strip("=")):
            raise ValueError(f"{TOKEN}: does not say whom a token is for; allowed: HOST=TOKEN or HOST:PORT=TOKEN")
        if not (token.isascii() and token.isprintable()):
            raise ValueError(f"{TOKEN}: holds what cannot be sent; allowed: printable ASCII")
    return dict(pairs)
