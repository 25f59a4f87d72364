"""MLflow's page in a real browser: what the views of a small sweep show, and the command that starts it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
from mlflow import MlflowClient

from mwm.runner.tracking.views import VIEW, VIEWS
from tests.helpers.browser import tab
from tests.helpers.launching import command, environment, launched, sweep
from tests.helpers.servers import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

QUESTION = "which step size survives soft extraction?"
KNOWN = ("/ajax-api/3.0/mlflow/assistant/", "/ajax-api/2.0/mlflow/users/current", "ResizeObserver loop")
"""What MLflow's page complains of: it asks for a chat assistant and accounts, which are not there; charts grow."""


def steps(tree: dict[str, Any]) -> None:
    """A control and two step sizes of the margin."""
    tree["description"] = QUESTION
    margin = tree["victim"]["scheme"]["grid"][1]
    margin["step_size"] = {"grid": [0.01, 0.02]}


@pytest.fixture(scope="module")
def home(mlflow_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that has ended: 3 victims, 6 attacks."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    done = launched(folder, "run", sweep(folder, steps))
    assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def shown(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The command `ui` while it runs, and the links that it prints by view; then nothing listens there any more."""
    process = subprocess.Popen(
        command("ui", *words), cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    lines: list[str] = []
    while not (lines and lines[-1].startswith("stop it")):
        lines.append(process.stdout.readline())
        assert lines[-1], f"it ended: {lines}"
    links = {
        view.strip().partition(":")[0]: link.strip()
        for view, link in pairwise(lines)
        if link.strip().startswith("http")
    }
    try:
        yield process, links
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()
    port = urlsplit(next(iter(links.values()))).port
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port or 0), 2):
        pass


@pytest.fixture(scope="module")
def links(home: Path) -> Iterator[dict[str, str]]:
    """The links of the views while their server runs."""
    with shown(home, "small") as (_, found):
        yield found


@contextmanager
def opened(browser: Browser, link: str, *, dark: bool = False) -> Iterator[Page]:
    """A view in a browser once its rows are there."""
    with tab(browser, width=1800, dark=dark, known=KNOWN) as page:
        page.goto(link)
        page.wait_for_selector(".ag-row .ag-cell >> visible=true", timeout=60_000)
        yield page


def headings(page: Page) -> list[str]:
    """The columns of the table, as far as they can be seen."""
    cells = page.locator(".ag-header-cell[col-id]").evaluate_all("all => all.map(one => one.getAttribute('col-id'))")
    return [str(cell) for cell in cells]


def column(page: Page, name: str) -> list[str]:
    """What stands in a column, from above."""
    rows = page.locator(f'.ag-row .ag-cell[col-id="{name}"]').evaluate_all(
        "all => all.map(one => [Number(one.parentElement.getAttribute('row-index')), one.innerText])"
    )
    return [text for _, text in sorted(rows)]


def rows_told(page: Page) -> int:
    return int(page.get_by_text("matching runs").locator("..").inner_text().split()[0])


def test_one_link_answers_which_step_size_survives_at_what_cost(browser: Browser, links: dict[str, str]) -> None:
    assert [*links] == [*VIEWS]
    with opened(browser, links["attacks"]) as page:
        page.wait_for_selector('.ag-header-cell[col-id="params.`victim.scheme.step_size`"]')
        assert rows_told(page) == 6
        proofs = [float(text) for text in column(page, "metrics.`neg_log10_p`")]
        assert proofs == sorted(proofs, reverse=True)
        steps, labels = column(page, "params.`victim.scheme.step_size`"), column(page, "params.`attack.labels`")
        assert sorted(steps) == ["-", "-", "0.01", "0.01", "0.02", "0.02"]
        assert sorted(labels) == ["hard"] * 3 + ["soft"] * 3
        assert {"tags.`decision`", "metrics.`accuracy_cost`"} <= {*headings(page)}
        assert all(column(page, "metrics.`accuracy_cost`"))
        answer = page.get_by_text("worst attack").all()
        assert any(one.is_visible() for one in answer), "the answer heads the page"
        assert page.get_by_text("Assistant").count() == 0


def test_the_view_of_victims_tells_what_each_costs_and_its_worst_attack(
    browser: Browser, links: dict[str, str]
) -> None:
    with opened(browser, links["victims"]) as page:
        assert rows_told(page) == 3
        assert {"metrics.`worst_neg_log10_p`", "tags.`worst_attack`"} <= {*headings(page)}
        assert all(text.startswith("extraction") for text in column(page, "tags.`worst_attack`"))


@pytest.mark.parametrize(("view", "charts"), [("trade-off", 2), ("learning", 3)])
def test_charts_are_drawn(browser: Browser, links: dict[str, str], view: str, charts: int) -> None:
    with opened(browser, links[view]) as page:
        drawn = page.locator('[data-testid="experiment-view-compare-runs-card"]')
        page.wait_for_selector(".plot-container .main-svg", timeout=60_000)
        page.wait_for_timeout(1_000)
        assert drawn.count() == charts
        assert all(one.locator("svg path").count() > 5 for one in drawn.all())
        assert rows_told(page) == 3


def test_a_filter_leaves_what_it_says(browser: Browser, links: dict[str, str]) -> None:
    with opened(browser, links["attacks"]) as page:
        field = page.locator("input[value*='mwm.sweep']").first
        field.fill(f"{field.input_value()} and params.`attack.labels` = 'soft'")
        field.press("Enter")
        page.wait_for_function("() => document.body.innerText.includes('3 matching runs')")
        assert set(column(page, "params.`attack.labels`")) == {"soft"}


def test_the_description_opens_with_question_and_table(browser: Browser, links: dict[str, str]) -> None:
    with opened(browser, links["attacks"]) as page:
        assert page.get_by_text(QUESTION).count() == 1
        assert page.locator("table", has_text="proof after the worst attack").count() == 1


def test_a_user_s_own_view_and_description_stay(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "copy")
    folder = tmp_path / "copy"
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name("small")
    assert found is not None
    own = VIEW + "small-attacks"
    client.set_experiment_tag(found.experiment_id, own, "mine")
    client.set_experiment_tag(found.experiment_id, "mlflow.note.content", "my words")
    client.delete_experiment_tag(found.experiment_id, VIEW + "small-learning")
    before = client.get_experiment(found.experiment_id).tags
    assert launched(folder, "sync", "small").returncode == 0
    assert client.get_experiment(found.experiment_id).tags == before


def test_a_taken_port_is_replaced_or_refused(home: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        number = taken.getsockname()[1]
        done = launched(home, "ui", "--port", str(number))
        assert done.returncode == 2
        assert done.stderr == f"--port: {number} is taken; name another, or leave it out\n"


def test_nothing_is_left_after_ctrl_c(home: Path) -> None:
    with shown(home) as (process, _):
        started = psutil.Process(process.pid).children(recursive=True)
        assert started
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    assert [one for one in started if one.is_running()] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["other"], "NAME: 'other' has no views in sqlite:///"),
        (["--port", "0"], "--port: 0 is not allowed: must be 1 to 65535"),
        (["--tracking-uri", "sqlite:///nowhere.db"], "--tracking-uri: sqlite:///"),
        (["--tracking-uri", "databricks"], "--tracking-uri: databricks"),
        (["--tracking-uri", "ftp://there"], "--tracking-uri: 'ftp://there' is not allowed"),
    ],
)
def test_a_mistake_is_one_line(home: Path, words: list[str], said: str) -> None:
    done = launched(home, "ui", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(said), done.stderr
