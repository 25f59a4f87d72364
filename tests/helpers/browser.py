"""A real browser for pages: headless Chromium as the system has it, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""What the program is called, by whoever packs it."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; skips, with the reason, where none is installed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser is installed: there is none of {', '.join(NAMES)}; Debian has it as chromium")
    from playwright.sync_api import sync_playwright

    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=[*sandbox, "--disable-dev-shm-usage"])
        try:
            yield running
        finally:
            running.close()


@contextmanager
def tab(
    browser: Browser, *, width: int = 1400, height: int = 900, dark: bool = False, known: Sequence[str] = ()
) -> Iterator[Page]:
    """An empty page of a window of so many pixels; fails if the page complained on its console, or broke.

    Complaints that hold one of `known`, or are about such an address, are no surprise.
    """
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()

    def complain(text: str) -> None:
        if not any(word in text for word in known):
            complaints.append(text)

    def listen(told: ConsoleMessage) -> None:
        if told.type == "error":
            complain(f"{told.text} {told.location.get('url', '')}")

    page.on("console", listen)
    page.on("pageerror", lambda error: complain(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert complaints == [], complaints
