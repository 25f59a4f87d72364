"""The heatmap: a number in each cell, marked where the watermark is proven."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from mwm.runner.reporting.figures import cells as cells_of
from mwm.runner.reporting.figures import heatmap, style
from mwm.runner.reporting.figures.catalogue import drawn
from tests.helpers.drawn import CASES, figures_of, grouped, swept, weights
from tests.helpers.ended import CONFUSION, HARD, MARGIN, SOFT, failed, result, stolen, trial


def panels(ended: list[Any]) -> list[Any]:
    return list(drawn(grouped(ended))["heatmap"].axes)


def cells(panel: Any) -> list[list[str]]:
    """What is written in the cells, row by row from the top."""
    across = len(panel.get_xticks())
    said = [text.get_text() for text in panel.texts]
    return [said[start : start + across] for start in range(0, len(said), across)]


def headings(axis: Any) -> list[str]:
    return [label.get_text().replace("\n", " ") for label in axis.get_majorticklabels()]


def test_cells_are_means_over_seeds_and_frames_say_what_is_proven_in_each() -> None:
    ended = [
        result(trial(scheme, seed), query_acc=1.0, log10_p=-60.0) for scheme in (MARGIN, CONFUSION) for seed in (0, 1)
    ]
    left = {"margin": [(0.2, 0.4), (0.2, 0.05)], "confusion": [(0.0, 0.0)]}
    ended += [stolen(MARGIN, seed, SOFT, query) for seed, query in enumerate(left["margin"][0])]
    ended += [stolen(MARGIN, seed, HARD, query) for seed, query in enumerate(left["margin"][1])]
    ended += [stolen(CONFUSION, seed, SOFT, 0.0) for seed in (0, 1)]
    proof, accuracy = panels(ended)
    assert headings(proof.xaxis) == ["no attack", "extraction soft", "extraction hard"]
    assert headings(proof.yaxis) == ["margin", "confusion"]
    assert cells(proof) == [["60.0", f"{30 * fmean(left['margin'][0]):.1f}", "3.8"], ["60.0", "0.0", "–"]]
    assert cells(accuracy) == [["1.00", ".30", ".12"], ["1.00", ".00", "–"]]
    framed = sorted(tuple(map(int, patch.get_xy())) for patch in proof.patches if isinstance(patch, Rectangle))
    assert framed == [(0, 0), (0, 1), (1, 0)]
    bold = [text.get_text() for text in proof.texts if text.get_fontweight() == "bold"]
    assert bold == ["60.0", "9.0", "60.0"]
    assert not accuracy.patches
    assert proof.get_ylim() == accuracy.get_ylim() == (2, 0), "the first setting stands on top"


def test_letters_are_plain_on_every_cell_in_the_dark_as_well() -> None:
    for panel in figures_of("many")["heatmap"].axes:
        mesh = panel.collections[0]
        mesh.update_scalarmappable()
        for text, ground in zip(panel.texts, mesh.get_facecolors(), strict=True):
            ink, cell = cells_of.luminance(to_rgb(text.get_color())), cells_of.luminance(ground)
            assert (max(ink, cell) + 0.05) / (min(ink, cell) + 0.05) >= 4.0
            assert text.get_color() != "k", "black follows the page, cells do not"


def test_the_darker_a_cell_the_more_is_left_also_in_grey() -> None:
    for panel in figures_of("many")["heatmap"].axes:
        mesh = panel.collections[0]
        mesh.update_scalarmappable()
        shades = [cells_of.luminance(ground) for ground in mesh.get_facecolors()]
        ordered = [shade for _, shade in sorted(zip(mesh.get_array().ravel().tolist(), shades, strict=True))]
        assert ordered == sorted(ordered, reverse=True)


def test_a_measure_that_no_student_has_is_left_out() -> None:
    (only,) = panels(CASES["no exact test"])
    assert only.get_title() == "query accuracy"


def test_of_a_large_sweep_the_settings_that_keep_most_are_shown_and_it_is_said() -> None:
    ended = swept(weights(heatmap.MOST_SETTINGS + 10), [SOFT], 1, controls=False)
    figure = heatmap.figure(grouped(ended))
    assert len(figure.axes[0].get_yticks()) == heatmap.MOST_SETTINGS
    assert f"{heatmap.MOST_SETTINGS} of {heatmap.MOST_SETTINGS + 10} settings" in figure.texts[-1].get_text().replace(
        "\n", " "
    )
    least = [row[1] for row in cells(figure.axes[0])]
    assert min(map(float, least)) > 3, "the first ten, which keep least, are left out"


@pytest.mark.parametrize("width", [style.FULL, style.COLUMN])
def test_panels_stand_side_by_side_where_they_fit_and_grow_where_they_do_not(width: float) -> None:
    few, many = figures_of("a control", width)["heatmap"], figures_of("many", width)["heatmap"]
    tops = [panel.get_position().y1 for panel in few.axes]
    assert (abs(tops[0] - tops[1]) < 0.01) == (width == style.FULL)
    for panel in many.axes:
        inches = panel.get_window_extent().width / many.dpi
        assert inches / len(panel.get_xticks()) >= 0.9 * cells_of.CELL


def test_failed_trials_leave_an_empty_cell() -> None:
    proof, _ = panels([result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5), failed(trial(MARGIN, 0, HARD))])
    assert cells(proof)[0][1:] == ["15.0", "–"]
