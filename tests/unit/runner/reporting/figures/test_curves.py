"""Retention and the front as pictures: which axes there are, and what is named where."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from mwm.runner.reporting import front
from mwm.runner.reporting.figures import labels, style
from mwm.runner.reporting.figures.catalogue import drawn
from mwm.runner.reporting.figures.front import MOST_NAMED
from tests.helpers.drawn import BUDGETS, CASES, TRIGGERS, figures_of, grouped, swept, weights
from tests.helpers.ended import CONFUSION, MARGIN, SOFT

CALLS, ACCURACY = "oracle calls", "clean accuracy of the student"


def titles(case: str) -> tuple[list[str], list[str]]:
    """What the axes of retention are called, from the left and from the top."""
    panels = figures_of(case)["retention"].axes
    across = [panel.get_xlabel().replace("\n", " ") for panel in panels if panel.get_xlabel()]
    return across, [panel.get_ylabel().partition(",")[0] for panel in panels if panel.get_ylabel()]


@pytest.mark.parametrize(
    ("case", "across", "up"),
    [
        ("budgets", [CALLS, ACCURACY], ["proof", "query accuracy"]),
        ("a control", [ACCURACY], ["proof", "query accuracy"]),
        ("removal", [ACCURACY], ["proof", "query accuracy"]),
        ("no exact test", [ACCURACY], ["query accuracy"]),
    ],
)
def test_an_axis_is_drawn_where_there_are_two_values_on_it(case: str, across: list[str], up: list[str]) -> None:
    assert titles(case) == (across, up)


def test_a_panel_that_is_left_alone_is_as_wide_as_the_page() -> None:
    (panel, *_) = figures_of("a control")["retention"].axes
    assert panel.get_position().width > 0.75


def test_a_front_takes_two_prices() -> None:
    assert "front" not in drawn(grouped(swept([MARGIN], BUDGETS, controls=False)))
    assert "front" in drawn(grouped(swept([MARGIN], [SOFT])))


def said(figure: Any) -> set[str]:
    """The names beside points."""
    return {text.get_text() for panel in figure.axes for text in panel.texts} - {""}


def entries(figure: Any) -> set[str]:
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def test_an_attack_is_named_with_its_budget_where_it_has_one_alone() -> None:
    once = SOFT | {"query_budget": 1200, "label_smoothing": 0.1}
    figure = drawn(grouped(swept([MARGIN, CONFUSION], [SOFT, once])))["retention"]
    assert "extraction label smoothing 0.1 1200 calls" in entries(figure)
    assert not [name for name in entries(figures_of("budgets")["retention"]) if name.endswith("calls")]


@pytest.mark.parametrize("name", ["front", "retention"])
def test_settings_are_named_where_they_are_and_not_in_a_legend(name: str) -> None:
    figure = figures_of("budgets")[name]
    assert {"margin", "confusion", "trigger_set"} <= said(figure)
    if name == "retention":
        assert not {"margin", "confusion", "trigger_set"} & entries(figure)
    assert any("extraction soft" in entry for entry in entries(figure))


def test_names_without_room_stand_in_the_legend() -> None:
    figures = figures_of("long names", style.COLUMN)
    longest = max(entries(figures["retention"]), key=len)
    assert longest.startswith("margin")
    numbers = {text for text in said(figures["front"]) if text.isdecimal()}
    assert numbers
    assert {entry.partition(":")[0] for entry in entries(figures["front"])} >= numbers


def test_of_a_long_front_some_are_named_from_end_to_end() -> None:
    figure = figures_of("many")["front"]
    points = [one for one in front.points(grouped(CASES["many"])) if one.on_front]
    assert len(points) > MOST_NAMED
    settings, _ = front.names(front.points(grouped(CASES["many"])))
    ends = [settings[one.point.victim] for one in sorted(points, key=lambda one: one.place)]
    told = said(figure) | {entry.partition(": ")[2] for entry in entries(figure)}
    assert {ends[0], ends[-1]} <= told
    assert sum(name in told for name in ends) == MOST_NAMED


def test_a_crowd_is_drawn_by_kind_of_scheme_and_as_pixels_where_shapes_were_too_many() -> None:
    figure = figures_of("many")["retention"]
    assert {"margin", "confusion", "none"} <= entries(figure)
    large = drawn(grouped(swept(weights(style.MOST_SHAPES * 2), [SOFT], 1, controls=False)))["retention"]
    svg = style.inline_svg(large, "large")
    assert svg.count("<image") == 2, "one in each panel"
    assert len(svg) < 200_000
    assert 'href="data:image/png;base64' in svg


def test_numbers_of_calls_are_written_as_people_do_and_where_points_are() -> None:
    panel = figures_of("budgets")["retention"].axes[2]
    shown = [label.get_text() for label in panel.get_xticklabels()]
    assert {"1,000", "10,000"} <= {*shown}
    assert "100,000" not in shown


def test_names_at_ends_of_lines_keep_their_order_and_stay_apart() -> None:
    heights = labels._spread([0.0, 0.01, 0.02, 0.5, 0.98, 1.0], 0.1)
    assert heights == sorted(heights)
    assert all(above - below >= 0.1 - 1e-9 for below, above in pairwise(heights))
    assert heights[0] >= 0.05 - 1e-9
    assert heights[-1] <= 0.95
    assert heights[3] == 0.5, "who has room is not moved"


def test_a_place_without_room_writes_nothing() -> None:
    with style.rules():
        figure = style.new_figure(2, 1.5)
        panel = figure.subplots()
        panel.plot([0, 1], [0, 1], "o")
        assert not labels.place_labels(panel, [labels.Label("short", (0, 0)), labels.Label("long " * 20, (1, 1))])
        assert len(panel.texts) == 0
        assert labels.place_labels(panel, [labels.Label("short", (0, 0))])
        assert len(panel.texts) == 1


def test_settings_without_a_watermark_are_grey_and_no_other_is() -> None:
    figure = figures_of("budgets")["retention"]
    drawn_in = {line.get_color() for panel in figure.axes for line in panel.lines if line.get_linestyle() != "None"}
    assert style.GREY in drawn_in
    assert {*style.COLOURS[:3]} <= drawn_in
    unmarked = figures_of("no control")["retention"]
    assert style.GREY not in {line.get_color() for panel in unmarked.axes for line in panel.lines}
    assert len(swept([MARGIN, CONFUSION, TRIGGERS], [SOFT], 1, controls=False)) == 6
