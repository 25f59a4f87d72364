"""Which machine is asked: this one, which is never behind a proxy, or another, perhaps through one."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from urllib.parse import urlsplit

from mwm.storage.hosts import is_here
from mwm.storage.redaction import redact_url

PROXIES = ("http", "https")
SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
"""Kinds of proxies; these need a package that mwm does without."""


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
