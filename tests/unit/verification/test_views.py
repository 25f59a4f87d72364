"""Views: drawn from the secret alone, fixed beforehand, and worth more than one answer to each image."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.config.randomness import secret_from_seed
from mwm.verification.querying.answer_log import ANSWERS, Answers
from mwm.verification.querying.order import order_queries
from mwm.verification.querying.views import draw_views
from mwm.verification.verify import verify
from mwm.verification.weighing import weigh_answers
from mwm.watermarks.key import load_key
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.http import Reply, answering
from tests.helpers.pages import Page
from tests.helpers.verifying import CLASSES, QUERIES, VerificationCase, answers, random_key, recalling, saying, seen

IMAGES: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (5, 3, 40, 33), dtype=np.uint8)
SECRET = secret_from_seed(0)


def test_a_view_can_be_drawn_again_by_whoever_has_the_secret() -> None:
    """In other words than those of the product, with nothing but the standard library: a shift of 2 pixels at most."""
    views = draw_views(IMAGES, [8, 0, 3, 1, 2], secret=SECRET, views=3)
    assert views.shape == (5, 3, 3, 40, 33)
    assert views.dtype == np.uint8
    assert np.array_equal(views[:, 0], IMAGES)
    begun = hmac.digest(SECRET, b"view/3/2", "sha256")
    down, right, *noise = hashlib.shake_256(begun).digest(2 + 3 * 40 * 33)
    image, drawn = IMAGES[2].tolist(), iter(noise)
    for channel in range(3):
        for row in range(40):
            for column in range(33):
                above, before = row + down % 5 - 2, column + right % 5 - 2
                pixel = image[channel][min(max(above, 0), 39)][min(max(before, 0), 32)]
                seen = min(max(pixel + next(drawn) // 8 - 16, 0), 255)
                assert views[2, 2, channel, row, column] == seen


@pytest.mark.parametrize(("side", "most"), [(8, 0), (15, 0), (16, 1), (32, 2), (64, 4), (224, 4)])
def test_small_images_stay_where_they_are(side: int, most: int) -> None:
    """A pixel is much of a digit, and little of a photograph."""
    edge = np.zeros((1, 1, side, side + 9), np.uint8)
    edge[..., side // 2 :] = 200
    views = draw_views(edge, [0], secret=SECRET, views=40)[0, 1:, 0]
    columns = (views >= 100).argmax(2)
    assert columns.min() == side // 2 - most
    assert columns.max() == side // 2 + most


def test_views_are_those_of_a_secret_and_an_image() -> None:
    one = draw_views(IMAGES, range(5), secret=SECRET, views=4)
    assert np.array_equal(one, draw_views(IMAGES, range(5), secret=SECRET, views=4))
    assert np.array_equal(one[:, :2], draw_views(IMAGES, range(5), secret=SECRET, views=2)), "more only add"
    other = draw_views(IMAGES, range(5), secret=secret_from_seed(1), views=4)
    same = draw_views(np.repeat(IMAGES[:1], 5, 0), range(5), secret=SECRET, views=4)
    assert not np.array_equal(one[:, 1:], other[:, 1:])
    assert len({view.tobytes() for view in same[:, 1:].reshape(-1, 3, 40, 33)}) == 15, "each has noise of its own"
    small = draw_views(IMAGES[..., :8, :8], range(5), secret=SECRET, views=4)
    changed = np.abs(small[:, 1:].astype(int) - IMAGES[:, None, :, :8, :8])
    assert 0 < changed.mean() <= changed.max() <= 16


@pytest.mark.parametrize("per_cell", [1, 3])
def test_the_views_of_an_image_are_asked_together(per_cell: int) -> None:
    key = random_key(6, per_cell=per_cell)
    plain, asked = (order_queries(key, 4, 1, views=views) for views in (1, 3))
    total = len(key.queries)
    assert asked.numbers == [number + total * view for number in plain.numbers for view in range(3)]
    assert np.array_equal(asked.images[asked.plain], plain.images)
    assert (asked.cells, asked.labels.tolist()) == (plain.cells, plain.labels.tolist())
    assert asked.places.tolist() == np.repeat(plain.places, 3).tolist()


def test_labels_that_hesitate_between_views_are_evidence() -> None:
    """The image itself is answered rightly; of its views a few are not, and then with the secret label."""
    key = random_key(30, classes=6)
    asked = order_queries(key, None, 0, views=5)
    labels = asked.truth[asked.places]
    labels[3::5] = asked.labels
    labels[4::15] = (asked.truth[::3] + 1) % 6
    plain = verify(key, recalling(asked, labels)).suspects[0]
    viewed = verify(key, recalling(asked, labels), views=5)
    (found,) = viewed.suspects
    assert (plain.wrong_answers, plain.p_value, plain.decision) == (0, 1.0, "not proven")
    assert (found.wrong_answers, found.decision, found.matches) == (30, "proven", 0)
    assert found.tests["unconditional"] == plain.tests["unconditional"], "it is of the images themselves"
    assert (found.asked, found.images, viewed.asked_now) == (30, 150, (150,))
    assert (viewed.plan.views, viewed.plan.images, viewed.plan.cells) == (5, 150, 30)
    quick = verify(key, recalling(asked, labels), views=5, sequential=True).suspects[0]
    assert quick.decision == "proven"
    assert quick.images == 5 * quick.asked < 150


def test_more_views_are_another_verdict_and_resume_as_well(
    ask: Ask, say: Say, case: VerificationCase, tmp_path: Path
) -> None:
    honest = saying(answers(case.key))
    with answering(honest, honest, Reply(status=403), honest) as suspect:
        words = ("--suspect", suspect.uri, "--views", "3", "--batch", "20")
        said = say("verify", "--key", str(case.key), *words)
        one_line(said, "refuses with 403", "40 of 90 answers are kept")
        status, found = ask(*words)
        shown = np.concatenate([seen(one) for number, one in enumerate(suspect.asked) if number != 2])
    assert (status, found["asked_now"]) == (0, [50])
    assert np.array_equal(shown, order_queries(load_key(case.key), None, 0, views=3).images)
    (finding,) = found["suspects"]
    assert (finding["asked"], finding["images"]) == (QUERIES, 3 * QUERIES)
    lines = (tmp_path / found["report"] / ANSWERS).read_text().splitlines()
    numbers = [number for line in lines[1:] for number in json.loads(line)["queries"]]
    assert sorted(numbers) == list(range(3 * QUERIES))
    text = Page((tmp_path / found["report"] / "report.html").read_text()).text
    assert "Images asked 90, with 3 views of each image of the key" in text
    assert "queries, views and the seed of the order must have been chosen" in text
    _, out, _ = say("verify", "--key", str(case.key), *words)
    assert "30 cells by 90 images in 3 views in 5 requests, of 30 cells: nothing now" in out
    other = ask("--suspect", case.key)[1]["report"]
    assert other != ask("--suspect", case.key, "--views", "3")[1]["report"]


def test_independent_models_are_proven_at_the_level_in_any_number_of_views() -> None:
    """300 suspects that answer views by chance, a class of their own for each image: as many as the level says."""
    rates = {}
    for views in (1, 4):
        proven = 0
        for seed in range(300):
            key = random_key(12, seed=seed)
            asked = order_queries(key, None, 0, views=views)
            drawn = np.random.default_rng(seed + 1000)
            likely = drawn.integers(0, CLASSES, 12)[asked.places]
            said: Any = np.where(drawn.random(len(asked)) < 0.6, likely, drawn.integers(0, CLASSES, len(asked)))
            proven += weigh_answers(asked, Answers(said, None)).p_value <= 0.05
        rates[views] = proven
    assert all(proven <= 26 for proven in rates.values()), f"15 are expected at most: {rates}"
    assert rates[4] >= 4, "a test that never proves anything keeps every level"
