"""What may be shown of an address, an error or a text from elsewhere: no password, no token, one line.

SQLAlchemy and urllib can hide the password of a URL, but show what follows an @ in one that was not quoted, a token in
place of a user, and every password among the options.
"""

from __future__ import annotations

import logging
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_CHARS, MAX_REASON_CHARS = 200, 300
"""Letters that are shown of a text from elsewhere, and of the reason for a failure."""

PLAIN = {"region", "scheme", "endpoint_override", "allow_delayed_open", "tls_ca_file_path", "tls_verify_certificates"}
"""Options of an object store that may be shown."""


def redact(text: str) -> str:
    """A text in which no URI shows a password any more."""
    text = re.sub(r"(://[^:/\s@]*):\S*@", r"\1:***@", text)
    text = re.sub(r"(https?://)[^:/\s@]+@", r"\1***@", text)
    return re.sub(r"(?i)\b([\w-]*(?:password|passwd|pwd|token|secret|key|sig|signature))=[^&\s]+", r"\1=***", text)


def redact_uri(uri: str) -> str:
    """The root of a store as where it is alone, without user, password and options; a folder as it is."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return uri
    place, *options = re.split(r"[?#]", rest, maxsplit=1)
    if options and "@" in options[0]:  # a password that was not quoted may hold any sign
        return f"{scheme}://***"
    return f"{scheme}://{place.rpartition('@')[2]}"


def uri_secrets(uri: str) -> set[str]:
    """Every part of the root of a store that `redact_uri` hides and that tells something, quoted and not."""
    user = uri.partition("://")[2].rpartition("@")[0]
    options = [value for name, value in parse_qsl(uri.partition("?")[2]) if name not in PLAIN]
    found = [user, *re.split(r"[:/?#@]", user), *options]
    return {text for piece in found for text in (piece, unquote(piece)) if len(text) > 2}


def redact_url(url: str) -> str:
    """The address of an endpoint with stars for user and password, and for all that is asked for behind the path."""
    place, *rest = re.split("[?#]", url, maxsplit=1)
    try:
        urlsplit(place).port  # noqa: B018
    except ValueError:  # the rest of a password, perhaps, which ends at the last @
        place, *rest = re.split("[?#]", re.sub("(?s)://.*@", "://***@", url), maxsplit=1)
    place = redact(re.sub("://[^/]*@", "://***@", place))
    return f"{place}?***" if rest else place


def redacted_excerpt(text: str, longest: int = MAX_CHARS) -> str:
    """A text from elsewhere, fit to be shown: one line, printable, no password of a URI in it.

    Of more than `longest` letters the middle is left out: what matters stands at the start or at the very end.
    """
    line = " ".join(redact(text).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    half = (longest - 5) // 2
    return shown if len(shown) <= longest else f"{shown[: longest - 5 - half]} ... {shown[-half:]}"


def one_line(text: str) -> str:
    """A text of our own without line breaks and control characters, which would spoil a log or a terminal."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def failure_reason(error: Exception) -> str:
    """Why a request to a service failed, in one line and without the passwords of URIs.

    Of a connection that fails only what the system says, of a database not its statement, of a page its text.
    """
    cause = root_cause(error)
    system = isinstance(cause, ConnectionError | TimeoutError | socket.gaierror)
    system |= type(cause).__module__.split(".")[0] in ("ssl", "urllib3")
    said = re.split(r"\n\[SQL: |\n\(Background on this error", str(cause if system else error))[0]
    if re.search(r"(?i)<(!doctype|html)\b", said):
        said = re.sub(r"(?is)<(style|script)\b.*?</\1>|<[^<>]*>", " ", said)
    return redacted_excerpt(said, MAX_REASON_CHARS) or type(error).__name__


def root_cause(error: BaseException) -> BaseException:
    """What lies at the bottom of an error: of a connection that fails, those above it repeat the whole address."""
    while deeper := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = deeper
    return error


def describe_error(error: BaseException) -> str:
    """What an error says, in one line; one that fails even at that says what it is."""
    try:
        said = str(error)
    except Exception:
        said = ""
    return redacted_excerpt(f"{type(error).__name__}: {said}").removesuffix(":")


@contextmanager
def in_one_line(otherwise: str) -> Iterator[None]:
    """What fails is a ValueError that says `otherwise`, and why, in one line; libraries say nothing themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{otherwise} ({describe_error(error)})") from error
    finally:
        logging.disable(before)
