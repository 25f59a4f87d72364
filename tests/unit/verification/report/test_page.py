"""The page for people: it stands alone, says each case in words, and shows questions in one of its two forms only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mwm.verification.querying.order import order_queries
from mwm.verification.report.page import html_report
from mwm.verification.verdict import Verdict
from mwm.verification.verify import verify
from tests.helpers.pages import Page
from tests.helpers.verifying import recalling
from tests.unit.verification.report.told import (
    ASKED,
    CELLS,
    CONTROL,
    COPY,
    GIVING,
    HINT,
    KEY,
    NAMES,
    NEAR,
    NULL,
    OTHER,
    saying,
    scores,
)

WRONG = recalling(ASKED, (ASKED.truth + 1) % 6)
"""A suspect that numbers its classes in another order."""


def written(folder: Path, *suspects: Any, key: Any = KEY, **options: Any) -> tuple[Verdict, Page, Page]:
    """A verdict, its report and its handout."""
    verdict = verify(key, *suspects, output=folder / "mine", **options)
    report, handout = (Page((folder / "mine" / name).read_text()) for name in ("report.html", "handout.html"))
    return verdict, report, handout


def both(said: tuple[Verdict, Page, Page], *words: str) -> None:
    for page in said[1:]:
        assert [one for one in words if one not in page.text] == [], page.text


def test_a_proof_is_told_in_plain_words(tmp_path: Path) -> None:
    both(
        written(tmp_path, COPY),
        "Proven to be a copy",
        "leans towards the secret answers of the key more often than chance can explain",
        "A network made without the key has a chance of at most 1 in 1,000 to be called proven",
        "a secret set of 30 pictures",
        "hits the secret class with about 1 in 5 of its wrong answers",
        "the secret class comes first in",
        "is within the limit of 1 in 1,000. So it is proven.",
        "is not the chance that a proven network is independent",
        "no commitment to the key was given",
        "Proven does not say who copied",
        "sha256sum -c SHA256SUMS",
    )


def test_who_gives_secret_answers_does_more_than_lean(tmp_path: Path) -> None:
    verdict, report, _ = said = written(tmp_path, GIVING)
    both(said, "This network gives the secret answers of the key more often than chance can explain")
    (suspect,) = verdict.suspects
    assert ["this network", str(suspect.right), str(suspect.matches), "0"] in report.rows
    chance = f"{round((30 - suspect.right) / 5, 1):g}"
    assert ["chance, with as many true answers", str(suspect.right), chance] == report.rows[-1][:3]


def test_what_is_not_proven_is_not_independent(tmp_path: Path) -> None:
    verdict, *_ = said = written(tmp_path, HINT)
    assert verdict.decision == "not proven"
    assert 0.01 < verdict.suspects[0].p_value < 0.012
    both(
        said,
        "Not proven to be a copy",
        "Chance is not ruled out",
        "more than the limit of 1 in 1,000. So it is not proven. A small p above the limit is a hint at most.",
        "Not proven does not mean independent",
    )


def test_a_larger_p_beside_a_proof_is_explained(tmp_path: Path) -> None:
    """Matches alone say little of a copy that answers most queries truly."""
    verdict, *_ = said = written(tmp_path, GIVING)
    test = verdict.suspects[0].tests["unconditional"]
    assert test is not None
    assert 0.01 < test.p_value < 0.05
    both(said, "Other tests of the same answers give a larger p: 0.026 (matches", "That is no contradiction")


def test_a_small_p_of_another_test_proves_nothing(tmp_path: Path) -> None:
    verdict, *_ = said = written(tmp_path, NEAR, sequential=True)
    test = verdict.suspects[0].tests["rank_sum"]
    assert test is not None
    assert test.p_value <= 1e-3 < verdict.suspects[0].p_value
    both(
        said,
        "Other tests of the same answers give a p within the limit:",
        "which holds only if nobody could stop early",
        "who may pick a test afterwards finds a small p too often",
    )


def test_a_second_suspect_that_flips_the_first_is_explained(tmp_path: Path) -> None:
    assert verify(KEY, NEAR).decision == "proven"
    verdict, *_ = said = written(tmp_path, NEAR, OTHER)
    assert [one.decision for one in verdict.suspects] == ["not proven", "not proven"]
    both(
        said,
        "2 networks tested; not proven to be a copy: 2",
        "The one with the strongest sign has the limit 1 in 2,000; if it is proven, the next one has 1 in 1,000",
        "Named alone it would have been proven, for then the limit is 1 in 1,000",
    )
    assert "Named alone" not in Page(html_report(verify(KEY, COPY, OTHER))).text


def test_a_suspect_that_is_asked_wrongly_gets_no_decision(tmp_path: Path) -> None:
    verdict, *_ = said = written(tmp_path, WRONG, no_diagnosis=True)
    assert verdict.decision == "inconclusive"
    both(
        said,
        "No decision",
        "named the true class of only 0 of 30 questions, so it may not have been asked in the way that it expects",
        "its answers tell nothing, neither for the owner nor against",
        "--input-range, --layout and --classes",
        "So there is no decision.",
    )
    reason = replace(verdict.suspects[0], reasons=("it counts from <1>",))
    page = Page(html_report(replace(verdict, suspects=(reason,))))
    assert "Likely reasons: it counts from <1>" in page.text


def test_control_and_null_models_stand_beside(tmp_path: Path) -> None:
    verdict, report, handout = said = written(tmp_path, COPY, control=CONTROL, null_models=NULL)
    control, null = verdict.suspects[0].compared
    assert (control.who, control.networks, null.who, null.networks) == ("control", 1, "null models", 3)
    told = np.stack([scores(0.0, seed, truth=1.5).argmax(1) for seed in (5, 6, 7)])
    assert null.right == pytest.approx((told == ASKED.truth).sum() / 3)
    assert null.matches == pytest.approx((told == ASKED.labels).sum() / 3)
    both(said, "What it favours, too, is taken off", "when the scores of the control are taken off")
    for page in (report, handout):
        assert [row[0] for row in page.rows if row[0].startswith(("control", "null"))] == [
            "control",
            "null models (mean of 3)",
        ]
    header, first = report.rows[0], report.rows[1]
    assert header[-3:] == ["suspect", "control", "null models"]
    assert "×" in first[-1]


def test_questions_are_shown_with_hard_pixels_and_names_in_the_report_alone(tmp_path: Path) -> None:
    _, report, handout = written(tmp_path, COPY, OTHER)
    assert "Keep it as secret as the key" in report.text
    assert (len(report.images), handout.images) == (10, [])
    assert "This page shows none of the questions" in handout.text
    for shown, image in zip(report.images, ASKED.images, strict=False):
        times = len(shown) // 6
        assert times * 6 >= 112
        assert np.array_equal(shown, image[0].repeat(times, 0).repeat(times, 1))
    said = scores(1.6)
    for place, row in enumerate(report.rows[1:11]):
        true, secret = NAMES[ASKED.truth[place]], NAMES[ASKED.labels[place]]
        ranked = [NAMES[one] for one in (-said[place]).argsort()]
        assert row[:3] == [str(place + 1), true, secret]
        assert row[4].startswith(ranked[0])
        assert ("(secret)" in row[4]) == (secret == ranked[0] or (true == ranked[0] and secret == ranked[1]))


def test_of_cells_some_images_are_shown(tmp_path: Path) -> None:
    asked = order_queries(CELLS, None, 0)
    verdict, report, _ = said = written(
        tmp_path, saying(1.5, asked=asked), key=CELLS, null_models=[saying(0.0, asked=asked)]
    )
    assert verdict.decision == "proven"
    both(said, "a secret set of 60 pictures in 12 groups", "together they are one question", "Answers to 12 questions")
    assert len(report.images) == 4 * 3
    assert "3 of its 5 pictures" in report.text
    assert f"class {asked.truth[0]}" in report.rows[1]


def test_other_forms_of_key_and_question(tmp_path: Path) -> None:
    said = written(tmp_path / "1", saying(4.2), key=replace(KEY, null="exchangeable"))
    both(said, "any other order of the secret classes", "If secret classes change places", "no rule of thumb")
    asked = order_queries(KEY, None, 0, views=3)
    said = written(tmp_path / "2", recalling(asked, scores(4.2).argmax(1).repeat(3)), views=3)
    both(said, "Each picture is shown 3 times: as it is, and slightly moved and with noise")
    silent = scores(4.2).argmax(1)
    silent[:2] = (-1, 9)
    _, report, _ = written(tmp_path / "3", recalling(ASKED, silent))
    assert (report.rows[1][4], report.rows[2][4]) == ("no answer", "9, no class of the key")


def test_a_suspect_may_be_called_as_it_likes(tmp_path: Path) -> None:
    verdict = verify(KEY, COPY)
    name = "<script>alert(`1`)</script> & http://me?a=1&b=2"
    page = Page(html_report(replace(verdict, suspects=(replace(verdict.suspects[0], name=name),))))
    assert "<script>alert(`1`)</script> & http://me?a=1&b=2" in page.text
