"""Verdicts by the sequential test: it stops as soon as it can, and says in the end what it said on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mwm.verification.decision import cells_to_decide
from mwm.verification.querying.order import order_queries
from mwm.verification.verify import verify
from mwm.watermarks.evidence import weigh
from mwm.watermarks.key import load_key
from tests.helpers.asking import Ask
from tests.helpers.http import answering
from tests.helpers.verifying import CLASSES, QUERIES, VerificationCase, answers, random_key, recalling, saying


def test_it_stops_as_soon_as_it_can(ask: Ask, case: VerificationCase) -> None:
    """One query less, and it would not be decided: no request asks more than a perfect copy would still need."""
    with answering(saying(answers(case.key))) as suspect:
        status, found = ask("--suspect", suspect.uri, "--sequential", "--level", "1e-2")
        (finding,) = found["suspects"]
        sizes = [len(one.images) for one in suspect.asked]
    assert (status, finding["decision"]) == (0, "proven")
    assert finding["p_value"] <= 1e-2
    assert finding["tests"]["sequential"]["p_value"] == finding["p_value"]
    assert finding["asked"] == sum(sizes) < QUERIES
    assert max(sizes) <= 10
    asked = order_queries(load_key(case.key), None, 0).part(0, finding["asked"] - 1)
    evidence = weigh(answers(case.key)(asked.images), asked.labels, asked.truth, classes=CLASSES)
    assert cells_to_decide(evidence.sequential(CLASSES), QUERIES, 1e-2) > 0, "one was asked in vain"
    assert any("only the sequential p" in note for note in found["notes"])


def test_it_gives_up_when_nothing_can_decide_it(ask: Ask) -> None:
    with answering(saying(lambda images: np.arange(len(images)) % 2)) as suspect:
        status, found = ask("--suspect", suspect.uri, "--sequential", "--level", "1e-9", "--no-diagnosis")
        assert sum(len(one.images) for one in suspect.asked) < QUERIES
    assert (status, found["decision"]) == (4, "inconclusive")


def kept(seed: int, *, scores: bool, share: float = 0.55) -> Any:
    """What a suspect says that keeps a share of the secret labels and answers the rest rightly or by chance."""
    asked = order_queries(random_key(30, classes=6, seed=seed), None, 0)
    drawn = np.random.default_rng(seed)
    logits = drawn.normal(size=(30, 6))
    logits[np.arange(30), np.where(drawn.random(30) < share, asked.labels, asked.truth)] += 2.0
    return logits if scores else logits.argmax(1)


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_it_never_contradicts_what_it_said_on_the_way(seed: int, scores: bool) -> None:
    """Proven exactly if the test reaches the level at a cell, that is the last one asked, however many at a time."""
    key = random_key(30, classes=6, seed=seed)
    asked, said = order_queries(key, None, 0), kept(seed, scores=scores)
    found = [
        verify(key, recalling(asked, said), sequential=True, level=0.01, batch=batch, accuracy_bound=0).suspects[0]
        for batch in (None, 1, 3, 30)
    ]
    assert len({(one.decision, one.p_value, one.asked) for one in found if one.decision == "proven"}) <= 1
    first = found[0]
    reached = [
        weigh(said[:count], asked.labels[:count], asked.truth[:count], classes=6).sequential(6).p_value <= 0.01
        for count in range(1, 31)
    ]
    assert {one.decision for one in found} == {"proven" if any(reached) else "not proven"}
    if any(reached):
        assert first.asked == reached.index(True) + 1
    assert (first.p_value <= 0.01) == any(reached)
