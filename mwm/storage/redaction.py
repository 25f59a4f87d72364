"""What may be shown of an address or an error: no password, no token, one line."""

from __future__ import annotations

import re
import socket
import ssl
from urllib.parse import parse_qsl, unquote

MAX_CHARS = 200
"""Letters that are shown of a text from elsewhere."""


def redact(text: str) -> str:
    """A text in which no URI shows a password any more."""
    text = re.sub(r"(://[^:/\s@]*):\S*@", r"\1:***@", text)
    text = re.sub(r"(https?://)[^:/\s@]+@", r"\1***@", text)
    return re.sub(r"(?i)\b([\w-]*(?:password|passwd|pwd|token|secret|key|sig|signature))=[^&\s]+", r"\1=***", text)


def redacted_excerpt(text: str, longest: int = MAX_CHARS) -> str:
    """A text from elsewhere, fit to be shown: one line, printable, no password of a URI in it.

    Of more than `longest` letters the middle is left out: what matters stands at the start or at the very end.
    """
    line = " ".join(redact(text).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    half = (longest - 5) // 2
    return shown if len(shown) <= longest else f"{shown[: longest - 5 - half]} ... {shown[-half:]}"


def root_cause(error: BaseException) -> BaseException:
    """What lies at the bottom of an error: of a connection that fails, those above it repeat the whole address."""
    while deeper := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = deeper
    return error


PLAIN = {"region", "scheme", "endpoint_override", "allow_delayed_open", "tls_ca_file_path", "tls_verify_certificates"}
"""What may be shown of a URI's query."""


def redact_uri(uri: str) -> str:
    """A URI without user, password and query; a folder as it is."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return uri
    place, *query = re.split(r"[?#]", rest, maxsplit=1)
    if query and "@" in query[0]:  # a password that was not quoted may hold any sign
        return f"{scheme}://***"
    return f"{scheme}://{place.rpartition('@')[2]}"


def _secrets(uri: str) -> set[str]:
    user = uri.partition("://")[2].rpartition("@")[0]
    query = [value for name, value in parse_qsl(uri.partition("?")[2]) if name not in PLAIN]
    found = [user, *re.split(r"[:/?#@]", user), *query]
    return {text for piece in found for text in (piece, unquote(piece)) if len(text) > 2}


LOST = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
"""What the system itself says of a connection that fails."""

LONGEST_REASON = 300
"""Letters of a reason that are shown."""


def error_line(error: Exception) -> str:
    """What an error says, in one line and without the passwords of URIs; of a connection that fails, only why."""
    deepest = root_cause(error)
    said = str(deepest if isinstance(deepest, LOST) or type(deepest).__module__.startswith("urllib3") else error)
    said = re.split(r"\n\[SQL: |\n\(Background on this error", said)[0]
    if re.search(r"(?i)<(!doctype|html)\b", said):
        said = re.sub(r"(?is)<(style|script)\b.*?</\1>|<[^<>]*>", " ", said)
    return redacted_excerpt(said, LONGEST_REASON) or type(error).__name__


def one_line(text: str) -> str:
    """Text without line breaks and control characters, which would spoil a log or a terminal."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
