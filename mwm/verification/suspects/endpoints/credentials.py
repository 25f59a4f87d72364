"""Where an endpoint is, and as whom it is asked."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "MWM_SUSPECT_TOKEN"
HOST = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d+)?")


def split_credentials(address: str) -> tuple[str, str]:
    """An address without user and password, and the Authorization that these make, if any; ValueError if it is none."""
    parts = urlsplit(address)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.port == 0 or not parts.hostname:
        raise ValueError("no host")
    if parts.username is None:
        return url, ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return url, f"Basic {b64encode(pair.encode()).decode()}"


def auth_hook(authorization: str) -> Callable[[Any], Any]:
    """What puts an Authorization, or none, into a request of requests, which would else look into ~/.netrc for one."""

    def sign(request: Any) -> Any:
        if authorization:
            request.headers["Authorization"] = authorization
        return request

    return sign


def bearer_token(url: str) -> str:
    """The Authorization by the token for the host of an address, or for its port there; empty if there is none.

    Raises ValueError, in one line without the token, if the environment says it otherwise or all the way could read it.
    """
    parts = urlsplit(url)
    host = str(parts.hostname)
    name = f"[{host}]" if ":" in host else host
    port = parts.port or {"http": 80, "https": 443}[parts.scheme.lower()]
    tokens = _tokens()
    token = tokens.get(f"{name}:{port}") or tokens.get(name, "")
    if token and parts.scheme.lower() != "https" and not _is_here(host):
        raise ValueError(f"{TOKEN}: is not sent to {name} without encryption; allowed: https, or this machine")
    return f"Bearer {token}" if token else ""


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


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
