"""Why a server did not answer, in its own words: the one line of what it sent that a person wants to read."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

MESSAGES: tuple[str, ...] = ("message", "msg", "detail", "details", "error_message", "errormessage", "error_msg")
MESSAGES += ("error_description", "error", "errors", "reason", "description", "exception", "cause", "title")
"""Names of what people are to read, the most telling first, in small letters."""

TRACES = ("stack_trace", "stacktrace", "traceback", "trace")
TRACE = "Traceback (most recent call last)"
ERROR = re.compile(r"(?:[\w.]*(?:Error|Exception)|error|reason)\b\s*:", re.IGNORECASE)
"""What the line of an error begins with."""

PAGE = re.compile(r"<(!doctype|\?xml|html|head|body|title|h1|p|pre|error)\b", re.IGNORECASE)
SENTENCE = 5
"""Words of a line of a page that says more than the status does."""

VALIDATION = re.compile(r"\d+ validation errors? for ")
"""The first line of pydantic's list of faults, each of which takes two lines."""

DEEPEST = 6
"""Objects within one another that are looked into."""


def stated_reason(content: bytes) -> str:
    """The line of a server's text, page or JSON that says what was wrong; empty if there is none.

    It is not yet fit to be shown: it may hold what was sent in confidence.
    """
    text = content.decode(errors="replace").strip()
    try:
        came = json.loads(text)
    except (ValueError, RecursionError):
        return _line(text)
    return reason_in(came) or (_line(text) if isinstance(came, dict) and came else "")


def reason_in(came: Any, depth: int = 0) -> str:
    """What an answer in JSON says of an error; empty if it says nothing of one."""
    if isinstance(came, str):
        return _line(came)
    if depth == DEEPEST or not came:
        return ""
    if isinstance(came, list):
        return reason_in(came[0], depth + 1) if isinstance(came[0], dict | str) else ""
    if not isinstance(came, dict):
        return ""
    named = {str(name).lower(): value for name, value in came.items()}
    said = next(filter(None, (reason_in(named.get(name), depth + 1) for name in MESSAGES)), "")
    if said and isinstance(place := named.get("loc"), list) and any(place):
        said = f"{'.'.join(map(str, place))}: {said}"
    cause = next((_line(named[name]) for name in TRACES if isinstance(named.get(name), str)), "")
    return f"{said} ({cause})" if said and cause and cause not in said else said or cause


def _line(text: str) -> str:
    """The line of a text that tells: the last of a traceback, one that names an error, or the first."""
    page = PAGE.search(text) is not None
    lines = [line.strip() for line in (_without_tags(text) if page else text).splitlines() if line.strip()]
    if any(TRACE in line for line in lines):
        frame = max((number for number, line in enumerate(lines) if line.startswith('File "')), default=0)
        return next((line for line in lines[frame + 1 :] if ERROR.match(line)), lines[-1])
    if lines and VALIDATION.match(lines[0]):
        return ": ".join(lines[:3])
    errors = (line for line in lines[1:] if ERROR.match(line))
    sentences = (line for line in lines if page and len(line.split()) >= SENTENCE)
    return [*errors, *sentences, *lines, ""][0]


def _without_tags(page: str) -> str:
    """The text of a page of HTML, with a line for each of its parts."""
    shown = re.sub(r"(?is)<(style|script)\b.*?</\1\s*>|<!--.*?-->", " ", page)
    return unescape(re.sub(r"<[^<>]*>", "\n", shown))
