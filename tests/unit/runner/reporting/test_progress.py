"""Names of trials and the display of a running sweep."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mwm.config.spec import decode
from mwm.runner.reporting.progress import Progress, estimate_remaining
from mwm.trials.names import attack_name, format_fraction, outcome_line, trial_name
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial

MARGIN = {"kind": "margin", "num_queries": 20, "step_size": 10 / 255}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def trial(scheme: dict[str, Any], attack: dict[str, Any] | None = None, **victim: Any) -> Trial:
    tree = {"data": "digits", "model": {"kind": "cnn", "width": 8}, "scheme": scheme} | victim
    made: Trial = decode(Trial, {"victim": tree, "attack": attack})
    return replace(made, attack=made.attack and made.attack.resolve(made.victim))


class Clock:
    """Seconds that pass only when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def display(*, terminal: bool, width: int = 100, **totals: int | None) -> tuple[Progress, io.StringIO, Clock]:
    file, clock = io.StringIO(), Clock()
    environment = {"TERM": "xterm-256color"}
    console = Console(file=file, force_terminal=terminal, width=width, height=40, _environ=environment)
    return Progress(console, **({"victims": None, "attacks": None} | totals), clock=clock), file, clock


def last_block(file: io.StringIO) -> str:
    """What stands on the terminal at the end: everything since the block was drawn for the last time."""
    plain = CONTROL.sub("", file.getvalue())
    return plain[plain.rindex("victims") - 5 :]


@pytest.mark.parametrize(
    ("scheme", "attack", "expected"),
    [
        (MARGIN, None, "margin n=20 10/255 seed 0"),
        ({"kind": "none"}, None, "none seed 0"),
        (MARGIN | {"step_size": 0.1, "steps": 3, "weight": 0.2}, None, "margin n=20 0.1 weight=0.2 steps=3 seed 0"),
        ({"kind": "trigger_set", "queries_per_step": "all"}, None, "trigger_set n=100 all per step seed 0"),
        (MARGIN | {"batchnorm": "joint"}, None, "margin n=20 10/255 joint seed 0"),
        (MARGIN | {"mass": 0.45}, None, "margin n=20 10/255 mass 0.45 seed 0"),
        ({"kind": "trigger_set", "mass": 0.3}, None, "trigger_set n=100 mass 0.3 seed 0"),
        ({"kind": "confusion"}, None, "confusion mass 0.1 seed 0"),
        (
            {"kind": "confusion", "mass": 0.05, "cells_per_class": 3},
            {"kind": "extraction"},
            "extraction soft seed 0 on confusion mass 0.05 3 cells per class seed 0",
        ),
        (
            {"kind": "combined", "queries": MARGIN | {"weight": 1.0}, "confusion": {"mass": 0.05}},
            None,
            "combined margin n=20 10/255 weight=1 + confusion mass 0.05 seed 0",
        ),
        (MARGIN, {"kind": "extraction"}, "extraction soft seed 0 on margin n=20 10/255 seed 0"),
        (
            MARGIN,
            {"kind": "extraction", "labels": "hard", "source": "svhn", "student": "resnet18", "seed": 3},
            "extraction hard svhn resnet18 seed 3 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "distillation", "temperature": 4.0, "t_squared": True},
            "distillation soft T=4 t_squared seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "extraction", "query_budget": 150},
            "extraction soft 150 calls seed 0 on margin n=20 10/255 seed 0",
        ),
        (
            MARGIN,
            {"kind": "extraction", "cache_answers": True},
            "extraction soft cache_answers seed 0 on margin n=20 10/255 seed 0",
        ),
    ],
)
def test_labels_say_what_matters(scheme: dict[str, Any], attack: dict[str, Any] | None, expected: str) -> None:
    assert trial_name(trial(scheme, attack)) == expected


def test_a_label_can_leave_its_victim_out_and_needs_no_complete_attack() -> None:
    made: Trial = decode(
        Trial, {"victim": {"data": "digits", "model": "cnn", "scheme": MARGIN}, "attack": "extraction"}
    )
    assert attack_name(made) == "extraction soft seed 0"
    assert trial_name(replace(made, attack=None)) == "margin n=20 10/255 seed 0"


def test_a_line_tells_the_figures_or_the_fault() -> None:
    blank = Outcome(status="done", digest="a", victim_digest="b", data_digest="c")
    done = replace(blank, query_acc=0.85, clean_acc=0.951, log10_p=-9.31, seconds=6.14, peak_mib=412.6)
    made = trial(MARGIN, {"kind": "extraction"})
    name = "extraction soft seed 0 on margin n=20 10/255 seed 0"
    assert outcome_line(made, done) == f"{name}: query .85, clean .951, log10 p -9.3, 6.1 s, 413 MiB"
    assert outcome_line(made, replace(blank, log10_p=-1e-9)) == f"{name}: log10 p 0.0"
    assert (
        outcome_line(made, replace(blank, status="failed", error="the loss is nan"))
        == f"{name}: failed: the loss is nan"
    )


@given(st.floats(-1, 1), st.integers(1, 6))
def test_shares_read_back_as_they_were(value: float, digits: int) -> None:
    text = format_fraction(value, digits)
    assert abs(float(text) - value) <= 0.5 * 10**-digits + 1e-12
    assert not text.startswith(("0.", "-0."))
    assert len(text.partition(".")[2]) == digits


@pytest.mark.parametrize(("value", "text"), [(0.9531, ".953"), (1.0, "1.000"), (-0.0301, "-.030"), (-0.0001, ".000")])
def test_shares_look_like_this(value: float, text: str) -> None:
    assert format_fraction(value) == text


def test_time_left_shares_the_work_among_the_slots() -> None:
    known = {"victim": [8.0, 12.0], "attack": [4.0]}
    left = estimate_remaining({"victim": 2, "attack": 5}, [("victim", 4.0), ("attack", 9.0)], durations=known, slots=2)
    assert left == (6 + 20 + 20) / 2
    assert estimate_remaining({"victim": 0, "attack": 0}, [("victim", 1.0)], durations=known, slots=8) == 9.0
    assert estimate_remaining({"victim": 0, "attack": 0}, [], durations=known, slots=0) == 0.0


@pytest.mark.parametrize(
    ("waiting", "known", "slots"),
    [
        ({"victim": 1, "attack": None}, {"victim": [1.0], "attack": [1.0]}, 1),
        ({"victim": 0, "attack": 3}, {"victim": [1.0], "attack": []}, 1),
        ({"victim": 1, "attack": 0}, {"victim": [1.0], "attack": []}, 0),
    ],
)
def test_time_left_is_not_guessed(waiting: dict[str, int | None], known: dict[str, list[float]], slots: int) -> None:
    assert estimate_remaining(waiting, [], durations=known, slots=slots) is None


def test_without_a_terminal_each_finished_trial_is_one_plain_line_at_once() -> None:
    progress, file, _ = display(terminal=False, width=20, victims=2, attacks=None)
    with progress:
        progress.started("victim", "a", "margin [bold]n=20[/bold]")
        progress.row("a", 1, 3, query_acc=0.5)
        assert file.getvalue() == ""
        progress.finished("victim", "a", status="done", line="margin [bold]n=20[/bold]: query .85, clean .951")
        assert file.getvalue() == "[1] margin [bold]n=20[/bold]: query .85, clean .951\n"
        progress.total(attacks=10)
        progress.best("anything")
        progress.finished("attack", "b", status="failed", line="extraction: failed:\r\n\x1b[31mboom\t:smile:")
        progress.finished("attack", "c", status="skipped", line="extraction: skipped")
    assert file.getvalue().splitlines()[1:] == [
        "[2/12] extraction: failed: [31mboom :smile:",
        "[3/12] extraction: skipped",
    ]


def test_on_a_terminal_one_block_counts_everything() -> None:
    progress, file, clock = display(terminal=True, victims=4, attacks=30)
    with progress:
        for name in "abc":
            progress.started("victim", name, f"margin [{name}]")
        clock.now += 60
        progress.row("a", 2, 3, loss=0.51234, query_acc=0.5)
        progress.row("nobody", 1, 3)
        progress.finished("victim", "a", status="done", line="margin [a]: done")
        progress.finished("victim", "b", status="failed", line="margin [b]: failed: the loss is nan")
        progress.finished("attack", "z", status="skipped", line="extraction: skipped")
        progress.row("c", 1, 3, query_acc=0.25)
        progress.best("extraction soft on margin n=20: query .85")
        clock.now += 3605
    block = last_block(file)
    for kind, done, running, waiting, failed in (("victims", 1, 1, 1, 1), ("attacks", 0, 0, 29, 0)):
        counts = rf"{kind} +{done} done +{running} running +{waiting} waiting +{failed} failed"
        assert re.search(counts, block), f"{counts} is not in {block}"
    assert "1 skipped" in block
    assert re.search(r"margin \[c\] +epoch 1/3 +query_acc 0.25", block)
    assert "margin [a]" not in block
    assert "best   extraction soft on margin n=20: query .85" in block
    assert "elapsed 1:01:05" in block
    assert "left -" in block
    assert "margin [b]: failed: the loss is nan" in CONTROL.sub("", file.getvalue())
    assert "margin [a]: done" not in CONTROL.sub("", file.getvalue())


def test_the_time_left_comes_from_trials_that_were_really_run() -> None:
    progress, file, clock = display(terminal=True, victims=5, attacks=0)
    with progress:
        progress.started("victim", "known", "from the store")
        progress.finished("victim", "known", status="done", line="from the store")
        progress.started("victim", "a", "margin")
        progress.started("victim", "b", "margin")
        clock.now += 30
        progress.row("a", 3, 3)
        progress.finished("victim", "a", status="done", line="margin")
        progress.started("victim", "c", "margin")
    # Two at once: b has had its 30 s, c and one that waits need 30 s each.
    assert "elapsed 0:30   left about 0:30" in last_block(file)


def test_unknown_totals_are_shown_as_unknown_until_they_are_told() -> None:
    progress, file, _ = display(terminal=True)
    with progress:
        pass
    assert last_block(file).count("? waiting") == 2
    progress, file, _ = display(terminal=True)
    with progress:
        progress.total(victims=3)
        progress.total(attacks=7)
    assert re.search(r"3 waiting[^?]*7 waiting", last_block(file))


def test_many_running_trials_do_not_flood_the_terminal() -> None:
    progress, file, _ = display(terminal=True, victims=50, attacks=0)
    with progress:
        for number in range(50):
            progress.started("victim", str(number), f"trial {number}")
    block = last_block(file)
    assert len(block.splitlines()) < 20
    assert re.search(r"50 running", block)
    listed = len(re.findall(r"trial \d+", block))
    assert f"and {50 - listed} more" in block


def test_a_dumb_terminal_gets_plain_lines() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, _environ={"TERM": "dumb"})
    with Progress(console, victims=1, attacks=0) as progress:
        progress.finished("victim", "a", status="done", line="margin: query .85")
    assert file.getvalue() == "[1/1] margin: query .85\n"


def test_what_was_known_is_one_line_before_what_is_run() -> None:
    progress, file, _ = display(terminal=False, victims=3, attacks=2)
    with progress:
        progress.known("victim", "done")
        progress.known("victim", "done")
        progress.finished("attack", "c", status="done", line="extraction c")
        progress.finished("victim", "d", status="failed", line="margin d: failed")
        progress.known("attack", "done")
    assert file.getvalue().splitlines() == [
        "[2/5] 2 cached",
        "[3/5] extraction c",
        "[4/5] margin d: failed",
    ]
    progress, file, _ = display(terminal=True, victims=1, attacks=0)
    with progress:
        progress.known("victim", "failed")
    assert "margin a" not in file.getvalue()
