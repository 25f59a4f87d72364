"""The display of a running sweep: a block on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from mwm.runner.reporting.progress import Progress
from tests.helpers.events import begin, cached, epochs, finish, measures, start
from tests.helpers.notebooks import run_cells

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    """Seconds that pass only when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def display(*, terminal: bool, width: int = 100) -> tuple[Progress, io.StringIO, Clock]:
    file, clock = io.StringIO(), Clock()
    environment = {"TERM": "xterm-256color"}
    console = Console(file=file, force_terminal=terminal, width=width, height=40, _environ=environment)
    return Progress(console, clock), file, clock


def last_block(file: io.StringIO) -> str:
    """What stands on the terminal at the end: everything since the block was drawn for the last time."""
    plain = CONTROL.sub("", file.getvalue())
    return plain[plain.rindex("victims ") - 5 :]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (begin(victim=16, attack=48, slots=2), "16 victims and 48 attacks, 2 at once"),
        (
            begin(victim=1, attack=1, epochs={"victim": 30, "attack": 12.5}),
            "1 victim of 30 epochs and 1 attack of 12.5 epochs",
        ),
        (begin(victim=3, attack=0, slots=1), "3 victims, 1 at once"),
        (begin(victim=None, attack=None), "an unknown number of victims and an unknown number of attacks"),
        (begin(), "no trials"),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_going_to_happen_is_said_first(terminal: bool, event: dict[str, object], line: str) -> None:
    progress, file, _ = display(terminal=terminal)
    with progress:
        progress.follow(event)
    shown = CONTROL.sub("", file.getvalue()).replace("\r", "\n").splitlines()
    assert line in [one.rstrip() for one in shown]


def test_without_a_terminal_each_finished_trial_is_one_plain_line_at_once() -> None:
    progress, file, _ = display(terminal=False, width=20)
    with progress:
        progress.follow(begin(victim=2, attack=None))
        progress.follow(start("a", label="margin [bold]n=20[/bold]"))
        progress.follow(epochs("a", 1))
        told = file.getvalue()
        progress.follow(finish("a", label="margin [bold]n=20[/bold]", query_acc=0.85, clean_acc=0.951))
        assert file.getvalue().removeprefix(told) == "[1] margin [bold]n=20[/bold]: query .85, clean .951\n"
        progress.follow({"event": "totals", "victim": 2, "attack": 10})
        progress.follow(finish("b", "attack", status="failed", label="hard", error="\r\n\x1b[31mboom\t:smile:"))
        progress.follow(finish("c", "attack", status="skipped", label="hard", error="its victim failed"))
    assert file.getvalue().splitlines()[2:] == [
        "[2/12] hard: failed: [31mboom :smile:",
        "[3/12] hard: skipped: its victim failed",
    ]


def test_plain_lines_say_now_and_then_how_long_it_will_take() -> None:
    progress, file, clock = display(terminal=False)
    with progress:
        progress.follow(begin(victim=5, slots=1))
        progress.follow(start("a"))
        clock.now += 10
        progress.follow(epochs("a", 5, seconds=2.0))  # 10 s for 5 of 10 epochs, before the first trial has ended
        clock.now += 10
        progress.follow(epochs("a", 10))
        progress.follow(finish("a"))
        progress.follow(start("b"))
        clock.now += 60
        progress.follow(epochs("b", 2))
    assert [line for line in file.getvalue().splitlines() if "left" in line] == [
        "[0/5] about 1:30 left",
        "[1/5] about 1:00 left",
    ]


def test_on_a_terminal_one_block_counts_everything() -> None:
    progress, file, clock = display(terminal=True)
    with progress:
        progress.follow(begin(victim=4, attack=30))
        for name in "abc":
            progress.follow(start(name, label=f"margin [{name}]"))
        clock.now += 60
        progress.follow(epochs("a", 2))
        progress.follow(epochs("nobody", 1))
        progress.follow(finish("a", label="margin [a]"))
        progress.follow(finish("b", status="failed", label="margin [b]", error="the loss is nan"))
        progress.follow(finish("z", "attack", status="skipped", label="hard", error="its victim failed"))
        progress.follow(epochs("c", 1, query_acc=0.25))
        progress.follow(measures("margin n=20", worst_log10_p=-8.0, worst_query_acc=0.85))
        clock.now += 3605
    block = last_block(file)
    for kind, done, running, waiting, failed in (("victims", 1, 1, 1, 1), ("attacks", 0, 0, 29, 0)):
        counts = rf"{kind} +{done} done +{running} running +{waiting} waiting +{failed} failed"
        assert re.search(counts, block), f"{counts} is not in {block}"
    assert "1 skipped" in block
    assert re.search(r"margin \[c\] +epoch 1/10 +query 0.25 clean 0.9", block)
    assert "margin [a]" not in block
    assert "best   margin n=20, clean .950; hard leaves -log10 p 8.0, query .85" in block
    assert "elapsed 1:01:05   left unknown until the first epochs" in block
    assert "margin [b]: failed: the loss is nan" in CONTROL.sub("", file.getvalue())
    assert "margin [a]: " not in CONTROL.sub("", file.getvalue())


def test_unknown_totals_are_shown_as_unknown_until_they_are_told() -> None:
    progress, file, _ = display(terminal=True)
    with progress:
        pass
    assert last_block(file).count("? waiting") == 2
    progress, file, _ = display(terminal=True)
    with progress:
        progress.follow({"event": "totals", "victim": 3, "attack": 7})
    assert re.search(r"3 waiting[^?]*7 waiting", last_block(file))


def test_many_running_trials_do_not_flood_the_terminal() -> None:
    progress, file, _ = display(terminal=True)
    with progress:
        progress.follow(begin(victim=50))
        for number in range(50):
            progress.follow(start(str(number), label=f"trial {number}"))
    block = last_block(file)
    assert len(block.splitlines()) < 20
    assert re.search(r"50 running", block)
    listed = len(re.findall(r"trial \d+", block))
    assert f"and {50 - listed} more" in block


def test_a_dumb_terminal_gets_plain_lines() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, _environ={"TERM": "dumb"})
    with Progress(console) as progress:
        progress.follow(begin(victim=1))
        progress.follow(finish("a", label="margin", query_acc=0.85))
    assert file.getvalue() == "1 victim\n[1/1] margin: query .85\n"


def test_what_was_known_is_one_line_before_what_is_run() -> None:
    progress, file, _ = display(terminal=False)
    with progress:
        progress.follow(begin(victim=3, attack=2))
        progress.follow(finish("a", cached=True))
        progress.follow(cached("b"))
        progress.follow(finish("c", "attack", label="extraction c", query_acc=1.0))
        progress.follow(finish("d", status="failed", label="margin d", error="nan"))
        progress.follow(cached("e", "attack"))
    assert file.getvalue().splitlines()[1:] == [
        "[2/5] 2 cached",
        "[3/5] extraction c: query 1.00",
        "[4/5] margin d: failed: nan",
    ]


CELL = """
from rich.console import Console
from mwm.runner.reporting.progress import Progress
from tests.helpers.events import begin, epochs, finish, start
with Progress(Console()) as progress:
    progress.follow(begin(victim=2, slots=1))
    for name in "ab":
        progress.follow(start(name, label=f"margin <{name}>"))
        progress.follow(epochs(name, 5))
        progress.follow(finish(name, status="done" if name == "a" else "failed", error="the loss is nan"))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_a_notebook_one_output_renews_itself() -> None:
    (cell,) = run_cells(CELL)
    outputs = [out["data"]["text/html"] for out in cell if "text/html" in out.get("data", {})]
    blocks = [html for html in outputs if "attacks" in html]
    assert len(blocks) == 1, "a block for each renewal"
    assert re.search(r"1 done.*0 running.*0 waiting.*1 failed", blocks[0])
    told = "".join(str(out) for out in cell)
    assert "2 victims, 1 at once" in told
    assert "the loss is nan" in told
