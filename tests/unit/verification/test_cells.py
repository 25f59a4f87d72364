"""Keys with several images for a secret label: asked together, judged together, counted as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mwm.data.images import to_float
from mwm.stats import binomial
from mwm.storage.store import Store
from mwm.trials.trial import Trial
from mwm.verification.querying.order import order_queries
from mwm.verification.report.page import html_report
from mwm.verification.report.summary import summary_lines
from mwm.verification.verify import verify
from mwm.watermarks.evidence import weigh
from mwm.watermarks.key import load_key
from mwm.watermarks.schemes import Confusion
from tests.helpers.asking import Say, one_line
from tests.helpers.http import Reply, answering
from tests.helpers.keyed import save
from tests.helpers.pages import Page
from tests.helpers.records import Loaded, done
from tests.helpers.verifying import WATERMARKED, VerificationCase, random_key, recalling, saying, seen

CELLS, EACH, CLASSES = 12, 4, 6
KEY = random_key(CELLS, per_cell=EACH, classes=CLASSES)
ASKED = order_queries(KEY, None, 0)


def hinting(strength: float, seed: int = 0) -> NDArray[np.float64]:
    """Scores (m C) of a network that is right about most images and leans to the secret labels a little."""
    drawn, rows = np.random.default_rng(seed), np.arange(len(ASKED))
    scores: NDArray[np.float64] = drawn.normal(size=(len(ASKED), CLASSES))
    scores[rows, ASKED.truth[ASKED.places]] += 4.0
    scores[rows, ASKED.labels[ASKED.places]] += strength
    return scores


def test_the_images_of_a_cell_are_asked_together() -> None:
    assert ASKED.cells == order_queries(random_key(CELLS), None, 0).cells, "the order is that of the cells"
    assert KEY.queries.cells is not None
    belongs = KEY.queries.cells.numpy()
    assert [belongs[number] for number in ASKED.numbers] == np.repeat(ASKED.cells, EACH).tolist()
    assert sorted(ASKED.numbers) == list(range(CELLS * EACH))
    assert np.array_equal(ASKED.images, KEY.queries.images.numpy()[ASKED.numbers])
    assert np.array_equal(ASKED.labels[ASKED.places], KEY.queries.labels.numpy()[ASKED.numbers])
    assert [ASKED.whole(count) for count in (0, 3, 4, 7, 47, 48)] == [0, 0, 1, 1, 11, 12]
    assert [ASKED.end(cells) for cells in (0, 1, 12)] == [0, 4, 48]


def test_a_hint_in_every_image_of_a_cell_is_one_piece_of_evidence() -> None:
    scores = hinting(1.5)
    (found,) = verify(KEY, recalling(ASKED, scores)).suspects
    expected = weigh(scores, ASKED.labels, ASKED.truth, classes=CLASSES, cells=ASKED.places)
    assert (found.decision, found.asked, found.images) == ("proven", CELLS, CELLS * EACH)
    assert (found.p_value, found.wrong_answers) == (expected.p_value, expected.wrong_answers)
    assert found.p_value >= 2 * 5.0**-CELLS, "twelve labels were drawn, and no more"
    assert found.tests["unconditional"] is not None
    assert found.tests["unconditional"].p_value == binomial.p_value(found.matches, CELLS, CLASSES)
    (independent,) = verify(KEY, recalling(ASKED, hinting(0.0))).suspects
    assert independent.decision == "not proven"


def test_labels_are_votes() -> None:
    labels = hinting(4.0).argmax(1)
    (found,) = verify(KEY, recalling(ASKED, labels)).suspects
    expected = weigh(labels, ASKED.labels, ASKED.truth, classes=CLASSES, cells=ASKED.places)
    assert (found.form, found.p_value) == ("labels", expected.p_value)
    assert found.p_value < 1e-4
    votes = np.stack([np.bincount(labels[ASKED.places == cell], minlength=CLASSES) for cell in range(CELLS)])
    alone = (votes == votes.max(1, keepdims=True)).sum(1) == 1
    assert found.matches == int((alone & (votes.argmax(1) == ASKED.labels)).sum())


def test_queries_count_cells() -> None:
    verdict = verify(KEY, recalling(ASKED, hinting(1.5)), queries=7)
    (found,) = verdict.suspects
    assert (found.asked, found.images, found.cells) == (7, 28, tuple(ASKED.cells[:7]))
    assert (verdict.plan.cells, verdict.key.cells, verdict.key.queries) == (7, CELLS, CELLS * EACH)
    with pytest.raises(ValueError, match=r"^queries: 13 is not allowed: the key has 12 cells$"):
        verify(KEY, recalling(ASKED, hinting(1.5)), queries=13)
    with pytest.raises(ValueError, match=r"^level: 0.001 is out of reach: 4 secret labels of 4 ranked first would not"):
        verify(KEY, recalling(ASKED, hinting(1.5)), queries=4)


def test_the_sequential_test_asks_whole_cells() -> None:
    shown: list[int] = []

    def copy(images: NDArray[np.float32]) -> Any:
        shown.append(len(images))
        return recalling(ASKED, hinting(4.0))(images)

    for batch, most in ((None, 40), (5, 5)):
        shown.clear()
        (found,) = verify(KEY, copy, sequential=True, batch=batch).suspects
        assert (found.decision, sum(shown)) == ("proven", EACH * found.asked)
        assert found.asked < CELLS
        assert max(shown) <= most


def test_null_models_are_compared_by_cells() -> None:
    models = [recalling(ASKED, hinting(0.0, seed)) for seed in (1, 2)] + [recalling(ASKED, hinting(4.5))]
    asked = order_queries(KEY, None, 0, views=2)
    copy = recalling(asked, np.repeat(hinting(4.5), 2, axis=0))
    (found,) = verify(KEY, copy, views=2, null_models=models).suspects
    empirical = found.tests["empirical"]
    assert empirical is not None
    assert (empirical.as_many, empirical.null_models) == (1, 2 + 1), "the third says the very same"


def test_a_verdict_of_cells_tells_both_numbers() -> None:
    verdict = verify(KEY, recalling(ASKED, hinting(1.5)))
    text, report = "\n".join(summary_lines(verdict)), Page(html_report(verdict)).text
    assert "12 cells of 48 images, 6 classes; secret labels drawn uniformly from the wrong classes" in text
    assert "asked     12 cells by 48 images in 1 request, of 12 cells" in text
    assert f"answers   {verdict.suspects[0].right} true, {verdict.suspects[0].matches} secret" in text
    assert f"{verdict.suspects[0].wrong_answers} of 12 cells with a wrong answer" in report
    assert "Key 12 cells of 48 images" in report
    assert "a secret set of 48 pictures in 12 groups" in report


def test_a_cell_that_was_cut_off_is_resumed(say: Say, tmp_path: Path) -> None:
    """The first request ends in the middle of the third cell."""
    copy = recalling(ASKED, hinting(1.5))
    honest = saying(lambda images: copy(to_float(torch.from_numpy(images)).numpy()))
    save(KEY, tmp_path / "key")
    with answering(honest, Reply(status=403), honest) as suspect:
        words = ("verify", "--key", str(tmp_path / "key"), "--suspect", suspect.uri, "--batch", "10", "--sequential")
        one_line(say(*words), "10 of 48 answers are kept")
        status, out, _ = say(*words)
        images = np.concatenate([seen(one) for number, one in enumerate(suspect.asked) if number != 1])
    assert status == 0, out
    assert np.array_equal(images, ASKED.images[: len(images)])
    assert len(images) % EACH == 0


@pytest.fixture(scope="module")
def confused(sets: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was taught a keyed confusion, which is its key's folder, too."""
    store = Store(tmp_path_factory.mktemp("confusion") / "store")
    victim = replace(WATERMARKED, scheme=Confusion(mass=0.3))
    return store.folder(done(Trial(victim=victim), sets, store).digest)


def test_a_trained_confusion_is_proven_as_far_as_its_labels_tell(confused: Path, case: VerificationCase) -> None:
    """Four classes have four secret labels, and 2 / 3^4 is the least that scores can show."""
    key = load_key(confused)
    assert key.queries.num_cells == 4
    verdict = verify(confused, confused, case.independent, level=0.05)
    copy, other = verdict.suspects
    assert [one.decision for one in verdict.suspects] == ["proven", "not proven"]
    assert copy.p_value == pytest.approx(2 * 3.0**-4)
    assert copy.matches == 0, "no image has to be answered wrongly"
    assert other.p_value > 0.05
    assert (verdict.key.cells, verdict.key.queries, verdict.key.scheme) == (4, len(key.queries), "confusion")
