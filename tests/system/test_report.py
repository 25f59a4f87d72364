"""The report in a real browser: all of it is there, in every light, on paper, and where MLflow shows it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from mwm.runner.reporting.figures.queries import draw_query_grid
from mwm.runner.reporting.report.files import write_sweep_report
from mwm.watermarks.queries import QuerySet
from tests.helpers.browser import tab
from tests.helpers.reported import ended, sweep_folder
from tests.helpers.servers import MlflowServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BOXES = "found => found.map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all of its sections."""
    results = ended()
    folder = sweep_folder(tmp_path_factory.mktemp("report") / "s", results)
    (folder / "queries").mkdir()
    asked = QuerySet(torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8), torch.arange(30), torch.arange(30) + 1)
    for one in results:
        draw_query_grid(asked, asked.images, folder / "queries" / f"{one.outcome.digest}.png")
    return write_sweep_report(folder)


@contextmanager
def opened(browser: Browser, report: Path, **how: Any) -> Iterator[Page]:
    """The report in a tab; nothing but the file itself may be asked for."""
    asked: list[str] = []
    with tab(browser, **how) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        yield page
    assert [one for one in asked if not one.startswith("data:")] == [report.as_uri()]


def seen(page: Page) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("L"))


def test_every_figure_and_picture_is_drawn(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        boxes = page.locator("figure svg").evaluate_all(BOXES)
        assert len(boxes) == 3
        assert all(width > 600 and height > 100 for width, height in boxes)
        assert page.locator("figure svg title").all_text_contents() != []
        sizes = page.locator("img").evaluate_all("found => found.map(one => [one.naturalWidth, one.alt])")
        assert [width for width, _ in sizes] == [1048, 1048]
        assert all(words.startswith("Queries of ") for _, words in sizes)
        assert page.locator("table").count() == 8  # two of them of threat models
        assert page.locator("svg [fill='#000000'], svg [stroke='#000000']").count() == 0, "black is lost in the dark"


def test_it_reads_in_the_dark(browser: Browser, report: Path) -> None:
    with opened(browser, report, dark=True) as page:
        ground, ink = (
            page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
        )
        assert (ground, ink) == ("rgb(24, 26, 27)", "rgb(232, 230, 227)")
        assert page.locator("figure svg").first.evaluate("one => getComputedStyle(one).color") == ink
        assert np.median(seen(page)) < 40
    with opened(browser, report) as page:
        assert np.median(seen(page)) > 240


def test_on_a_phone_the_page_stays_in_its_width_and_tables_scroll(browser: Browser, report: Path) -> None:
    with opened(browser, report, width=400) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        wide = page.locator(".wide").evaluate_all("found => found.map(one => one.scrollWidth > one.clientWidth)")
        assert any(wide)


def test_on_paper_it_is_black_on_white_and_nothing_is_cut_off(browser: Browser, report: Path) -> None:
    with opened(browser, report, dark=True, width=794) as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert np.median(seen(page)) > 240
        right = page.locator("table, figure svg, img").evaluate_all(
            "found => found.map(one => one.getBoundingClientRect().right)"
        )
        assert max(right) <= 794
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_mlflow_shows_it_among_the_files_of_a_run(browser: Browser, report: Path, started: MlflowServer) -> None:
    client = MlflowClient(started.uri)
    experiment = client.create_experiment("report")
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, str(report))
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 900})  # MLflow's own page complains of itself
    try:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{started.uri}/#/experiments/{experiment}/runs/{run}/artifacts/report.html")
        shown = page.frame_locator("iframe")
        shown.locator("h1").wait_for()
        assert shown.locator("h1").text_content() == "s"
        boxes = shown.locator("figure svg").evaluate_all(BOXES)
        assert len(boxes) == 3
        assert all(width > 400 and height > 50 for width, height in boxes)
        assert shown.locator("img").evaluate_all("found => found.map(one => one.naturalWidth)") == [1048, 1048]
    finally:
        context.close()
    assert [one for one in asked if not one.startswith((started.uri, "blob:", "data:"))] == []
