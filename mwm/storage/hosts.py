"""Which machine a name or an address means."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address


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
