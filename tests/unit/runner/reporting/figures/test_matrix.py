"""The matrix of attacks and the picture of strength: what stands where, and when they are drawn."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.patches import Rectangle

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.groups.configurations import attacked
from mwm.runner.reporting.groups.names import attack_names, by_knowledge, victim_names
from mwm.runner.reporting.report.tables import read_table
from mwm.runner.reporting.retention import points
from mwm.runner.reporting.tables.layout import MOST_ACROSS, WIDTH
from mwm.runner.reporting.tables.retention import retention_table
from tests.helpers.drawn import BUDGETS, CASES, figures_of, grouped, swept, weights
from tests.helpers.ended import MARGIN, SOFT, result, stolen, trial
from tests.helpers.tabled import shown

GROUPS = grouped(CASES["many attacks"])


def lines(panel: Any) -> list[str]:
    return [label.get_text().replace("\n", " ").replace("\xa0", " ") for label in panel.yaxis.get_majorticklabels()]


def said(panel: Any) -> list[list[str]]:
    """What is written in the cells of each line that has some."""
    across = len(panel.get_xticks())
    texts = [text.get_text() for text in panel.texts]
    return [texts[start : start + across] for start in range(0, len(texts), across)]


def expected_lines() -> list[str]:
    named, found = attack_names(GROUPS), ["no attack"]
    for known, attacks in by_knowledge(GROUPS).items():
        found += [str(known), *(named[one] for one in attacks)]
    return found


def test_the_matrix_has_a_line_for_each_attack_below_its_threat_model() -> None:
    proof, lost = figures_of("many attacks")["matrix"].axes
    assert lines(proof) == expected_lines()
    bold = [label.get_text() for label in proof.yaxis.get_majorticklabels() if label.get_fontweight() == "bold"]
    assert bold == [str(known) for known in by_knowledge(GROUPS)]
    assert [label.get_text().replace("\n", " ") for label in proof.xaxis.get_majorticklabels()] == [
        victim_names(attacked(GROUPS))[victim] for victim in attacked(GROUPS)
    ]
    found = {(point.victim, point.attack): point for point in points(GROUPS)}
    order = [attack for attacks in by_knowledge(GROUPS).values() for attack in attacks]
    for attack, proofs, losses in zip(order, said(proof)[1:], said(lost)[1:], strict=True):
        for victim, left, cost in zip(attacked(GROUPS), proofs, losses, strict=True):
            point = found[victim, attack]
            assert point.neg_log10_p is not None
            assert point.accuracy_drop is not None
            assert float(left) == pytest.approx(point.neg_log10_p.value, abs=0.0501)
            assert float(cost.replace("−", "-")) == pytest.approx(100 * point.accuracy_drop, abs=0.0501)


def test_what_is_proven_is_framed_in_the_matrix() -> None:
    proof, lost = figures_of("many attacks")["matrix"].axes
    framed = [patch for patch in proof.patches if isinstance(patch, Rectangle)]
    detected = sum(point.detected == point.students for point in points(GROUPS))
    assert len(framed) == detected + len(attacked(GROUPS)), "and the victims themselves"
    assert not lost.patches


def test_a_column_of_a_paper_has_the_proof_alone() -> None:
    assert len(figures_of("many attacks", style.COLUMN)["matrix"].axes) == 1


@pytest.mark.parametrize(("attacks", "settings", "there"), [(12, 1, False), (13, 1, True), (13, 14, False)])
def test_the_matrix_is_drawn_where_attacks_are_many_and_more_than_settings(
    attacks: int, settings: int, there: bool
) -> None:
    assert MOST_ACROSS == 12
    budgets = [SOFT | {"query_budget": 100 + number} for number in range(attacks)]
    from mwm.runner.reporting.figures import heatmap, matrix

    groups = grouped(swept(weights(settings), budgets, 1, controls=False))
    assert (matrix.figure(groups) is not None) is there
    assert (heatmap.figure(groups) is None) is there


def test_the_table_of_many_attacks_has_a_line_for_each_below_its_threat_model() -> None:
    (made,) = retention_table(GROUPS, width=float("inf"))
    heads = [row[0].text.replace("\n", " ") for row in read_table("", made).rows]
    assert heads == ["victim clean", "clean drop", "victim proof", *expected_lines()[1:]]
    assert max(map(len, shown(CASES["many attacks"]).splitlines())) <= WIDTH


def strength(case: str) -> Any:
    return figures_of(case)["strength"]


def test_a_row_of_panels_for_each_kind_whose_attacks_differ_in_strength() -> None:
    panels = strength("many attacks").axes
    titles = [panel.get_title(loc="left") for panel in panels if panel.get_title(loc="left")]
    assert titles == [
        *("extraction", "fine_tuning", "batchnorm_reestimation"),
        *("batchnorm_reestimation + fine_tuning", "batchnorm_reestimation + extraction"),
    ]
    assert [panel.get_xlabel() for panel in panels[::3]] == [
        *("query_budget", "epochs", "passes", "epochs", "query_budget"),
    ]
    assert len(panels) == 15


def test_points_stand_at_their_strength_and_those_without_a_bound_nowhere() -> None:
    proof, clean, query = strength("budgets").axes
    for panel in (proof, clean, query):
        places = {float(x) for line in panel.lines if line.get_marker() not in ("None", "") for x in line.get_xdata()}
        assert places == {150.0, 1200.0}


def test_attacks_of_one_strength_alone_are_no_picture_of_strength() -> None:
    assert "strength" not in figures_of("a control")
    assert BUDGETS[2] == SOFT


def test_strengths_over_many_orders_are_on_a_logarithmic_axis() -> None:
    from mwm.runner.reporting.figures import strength as pictured

    few = [stolen(MARGIN, 0, SOFT | {"query_budget": budget}, 0.5) for budget in (1, 10, 1000)]
    with style.rules():
        made = pictured.figure(grouped([result(trial(MARGIN)), *few]))
    assert made.axes[0].get_xscale() == "log"
