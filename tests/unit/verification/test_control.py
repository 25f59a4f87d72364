"""A control: asked the same first, its answers are subtracted, and that decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.verification.procedure import UnansweredError
from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.querying.order import OrderedQueries, order_queries
from mwm.verification.report.page import html_report
from mwm.verification.report.summary import summary_lines
from mwm.verification.verify import verify
from mwm.watermarks.evidence import weigh
from mwm.watermarks.key import load_key
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.http import Reply, answering
from tests.helpers.pages import Page
from tests.helpers.verifying import CLASSES, QUERIES, VerificationCase, answers, random_key, recalling, saying

KEY = random_key(30, classes=6)
ASKED = order_queries(KEY, None, 0)


def confused(asked: OrderedQueries, *, copied: float, seed: int = 0) -> NDArray[np.float64]:
    """Scores (m C) with a large confusion that lies in the image, and a little of the secret label."""
    rows, images = np.arange(len(asked)), np.random.default_rng(5).normal(size=(len(asked), asked.classes))
    own = np.random.default_rng(seed).normal(size=images.shape)
    scores: NDArray[np.float64] = 3 * images + 0.2 * own
    scores[rows, asked.labels[asked.places]] += copied
    scores[rows, asked.truth[asked.places]] += 9.0
    return scores


COPY, OTHER, CONTROL = (
    recalling(ASKED, confused(ASKED, copied=copied, seed=seed)) for copied, seed in ((0.8, 0), (0.0, 1), (0.0, 2))
)


def test_natural_confusions_are_taken_out() -> None:
    alone = verify(KEY, COPY).suspects[0]
    verdict = verify(KEY, COPY, control=CONTROL)
    (found,) = verdict.suspects
    assert (alone.decision, found.decision) == ("not proven", "proven")
    copy, control = confused(ASKED, copied=0.8), confused(ASKED, copied=0.0, seed=2)
    expected = weigh(copy, ASKED.labels, ASKED.truth, classes=6, control=control)
    assert expected.scores is not None
    assert (found.p_value, found.p_scores) == (expected.p_value, expected.scores.p_value)
    assert found.mean_rank < alone.mean_rank
    uncontrolled = found.tests["uncontrolled"]
    assert uncontrolled is not None
    assert uncontrolled.p_value == alone.p_value, "what it is without is set beside"
    assert alone.tests["uncontrolled"] is None
    assert (found.matches, found.wrong_answers) == (alone.matches, alone.wrong_answers)
    assert verdict.plan.control is not None
    assert verdict.plan.control.access == "callable"
    for text in ("\n".join(summary_lines(verdict)), Page(html_report(verdict)).text):
        for words in (
            "its answers are subtracted",
            "ranks without the control",
            "one that knows the secret labels can",
        ):
            assert words in text


def test_another_network_stays_unproven() -> None:
    (found,) = verify(KEY, OTHER, control=CONTROL).suspects
    assert (found.decision, found.p_value > 0.01) == ("not proven", True)


def test_the_sequential_test_takes_it_out_as_well() -> None:
    alone = verify(KEY, COPY, sequential=True).suspects[0]
    found = verify(KEY, COPY, control=CONTROL, sequential=True).suspects[0]
    assert (alone.decision, found.decision) == ("not proven", "proven")
    assert found.asked < 30


def test_of_a_suspect_with_labels_the_first_choices_are_compared() -> None:
    """Control and suspect agree in most of their errors; what the suspect has more is the secret label."""
    drawn = np.random.default_rng(0)
    shared = (ASKED.truth + drawn.integers(1, 6, 30)) % 6
    mine = np.where(np.arange(30) % 3 == 0, ASKED.labels, shared)
    scores = np.eye(6)[shared]
    for said in (shared, scores):
        (found,) = verify(KEY, recalling(ASKED, mine), control=recalling(ASKED, said)).suspects
        expected = weigh(mine, ASKED.labels, ASKED.truth, classes=6, control=said)
        assert (found.form, found.p_scores) == ("labels", None)
        assert found.p_value == found.p_labels == expected.p_value


@pytest.mark.parametrize("sequential", [False, True])
def test_a_control_with_labels_cannot_be_subtracted_from_scores(sequential: bool) -> None:
    shown = []

    def copy(images: NDArray[np.float32]) -> Any:
        shown.append(len(images))
        return COPY(images)

    control = recalling(ASKED, ASKED.truth)
    with pytest.raises(ValueError, match=r"^control: .* answers with labels, and .* with scores; allowed: a control"):
        verify(KEY, copy, control=control, batch=5, sequential=sequential)
    assert shown == [5], "one request tells"


def test_a_control_is_asked_first_and_only_once(ask: Ask, say: Say, case: VerificationCase, tmp_path: Path) -> None:
    honest, other = saying(answers(case.key)), saying(answers(case.independent))
    with answering(honest, Reply(status=403), honest) as suspect, answering(other) as control:
        words = ("--suspect", suspect.uri, "--control", control.uri, "--batch", "20")
        one_line(say("verify", "--key", str(case.key), *words), "--suspect: ", "20 of 30 answers are kept")
        assert [len(one.images) for one in control.asked] == [20, 10], "all of it, before any suspect is done"
        assert control.asked[-1].time < suspect.asked[0].time
        status, found = ask(*words)
        assert len(control.asked) == 2
    assert (status, found["asked_now"], found["plan"]["control"]["name"]) == (0, [10], control.uri)
    assert len(found["suspects"]) == 1, "a control is no suspect"
    lines = [json.loads(line) for line in (tmp_path / found["report"] / ANSWERS).read_text().splitlines()]
    assert lines[0]["plan"]["control"]["name"] == control.uri
    assert [line["suspect"] for line in lines[1:]] == [1, 1, 0, 0], "the number after the last suspect"


def test_the_control_is_part_of_the_plan(ask: Ask, case: VerificationCase) -> None:
    first, second, third = (
        ask("--suspect", case.key, *more)[1]["report"]
        for more in ((), ("--control", case.independent), ("--control", case.independent))
    )
    assert first != second == third
    held = load_key(case.key)
    asked = order_queries(held, None, 0)
    copy, other = answers(case.key)(asked.images), answers(case.independent)(asked.images)
    expected = weigh(copy, asked.labels, asked.truth, classes=CLASSES, control=other)
    assert verify(case.key, case.key, control=case.independent).suspects[0].p_value == expected.p_value


def test_a_control_that_is_silent_decides_nothing(say: Say, case: VerificationCase) -> None:
    with answering(Reply(status=403)) as control, answering(saying(answers(case.key))) as suspect:
        words = ("verify", "--key", str(case.key), "--suspect", suspect.uri, "--control", control.uri)
        one_line(say(*words), f"--control: {control.uri}: refuses with 403", "0 of 30 answers are kept", "run the same")
        assert suspect.asked == []

    def away(images: NDArray[np.float32]) -> None:
        raise OSError("gone")

    with pytest.raises(UnansweredError, match=r"^control: .*failed on images"):
        verify(KEY, COPY, control=away)


def test_what_the_control_refuses_is_left_out(ask: Ask, case: VerificationCase) -> None:
    asked, honest = order_queries(load_key(case.key), None, 0), answers(case.independent)
    refused = {image.tobytes() for image in asked.images[:5]}

    def mostly(images: NDArray[np.uint8]) -> Any:
        return np.array([None]) if any(image.tobytes() in refused for image in images) else honest(images)

    with answering(saying(mostly)) as control:
        words = ("--suspect", case.key, "--control", control.uri, "--skip-unanswered")
        _, found = ask(*words)
    (finding,) = found["suspects"]
    rest = asked.part(5, QUERIES)
    expected = weigh(
        answers(case.key)(rest.images),
        rest.labels,
        rest.truth,
        classes=CLASSES,
        control=honest(rest.images),
    )
    assert (finding["asked"], finding["unanswered"]) == (QUERIES, 0), "the suspect did answer"
    assert finding["p_value"] == pytest.approx(expected.p_value, rel=1e-6)
