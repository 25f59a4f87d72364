"""Which machine is asked: this one, which is never behind a proxy, or another, perhaps through one."""

from __future__ import annotations

import socket
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from mwm.storage.redaction import redact_url

PROXIES = ("http", "https")
SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
"""Kinds of proxies; these need a package that mwm does without."""


def is_here(host: str) -> bool:
    """Whether a host is this machine: a loopback address, however it is written, or a name for nothing else."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return _is_loopback(ip_address(host))
    with suppress(OSError, UnicodeError):
        found = {str(place[4][0]) for place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        return bool(found) and all(_is_loopback(ip_address(address)) for address in found)
    return False


def _is_loopback(address: IPv4Address | IPv6Address) -> bool:
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)


def proxy_of(url: str) -> str:
    """The proxy by which the environment wants an address to be asked; empty for this machine, and if there is none.

    Raises ValueError, in one line without its password, if it is none that can be used.
    """
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy or is_here(str(urlsplit(url).hostname)):
        return ""
    whole = proxy if "://" in proxy else f"http://{proxy}"
    allowed = (*PROXIES, *SOCKS) if find_spec("socks") else PROXIES
    with suppress(ValueError):
        parts = urlsplit(whole)
        if parts.scheme.lower() in allowed and parts.hostname and parts.port != 0:
            return whole
    hint = "see http_proxy, https_proxy and all_proxy in the environment"
    raise ValueError(f"proxy: {redact_url(whole)} is not allowed; allowed: {', '.join(PROXIES)}://HOST:PORT; {hint}")
