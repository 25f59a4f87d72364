"""Pages of HTML: no scripts, nothing fetched, readable on paper, in the dark and without colour."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mwm.verification.report.words import raised


def render(template: Path, content: dict[str, Any]) -> str:
    """A page made of a template, which may include `style.css`, the looks of all pages; all content is escaped."""
    return _environment(template.parent).get_template(template.name).render(content)


def marked(text: str) -> Markup:
    """A text whose `commands` are set as such, and whose powers of ten are raised; all else is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(raised(text)))))


@cache
def _environment(folder: Path) -> Environment:
    how: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **how)
    environment.filters["marked"] = marked
    return environment
