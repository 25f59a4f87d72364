"""The decision on a suspect that names too few true classes: not proven would be said of a question, not of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mwm.verification.decision import default_accuracy_bound, judge, overall
from mwm.verification.suspects.presentation import InputFormat
from mwm.verification.verify import verify
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.http import Asked, Reply, answering
from tests.helpers.steered import copied, honest, wanting
from tests.helpers.verifying import CLASSES, VerificationCase, answers, random_key

KEY = random_key(60)
BYTES = InputFormat("0,255")


def test_the_bound() -> None:
    assert default_accuracy_bound(10) == pytest.approx(0.325)
    assert default_accuracy_bound(2) == pytest.approx(0.625)
    assert judge("not proven", right=32, asked=100, bound=0.325) == "inconclusive"
    assert judge("not proven", right=33, asked=100, bound=0.325) == "not proven"
    assert judge("proven", right=0, asked=100, bound=0.325) == "proven", "copies give secret labels for true ones"
    assert judge("not proven", right=0, asked=100, bound=0) == "not proven"


def test_several_decisions_make_one() -> None:
    assert overall(["not proven", "inconclusive", "proven"]) == "proven"
    assert overall(["not proven", "inconclusive"]) == "inconclusive"
    assert overall(["not proven", "not proven"]) == "not proven"


@pytest.mark.parametrize("sequential", [False, True])
def test_a_copy_that_is_asked_wrongly_is_inconclusive_and_rightly_is_proven(sequential: bool) -> None:
    suspect = copied(KEY, BYTES)
    wrongly = verify(KEY, suspect, sequential=sequential, no_diagnosis=True)
    rightly = verify(KEY, suspect, sequential=sequential, input_range="0,255")
    assert (wrongly.decision, rightly.decision) == ("inconclusive", "proven")
    (one,) = wrongly.suspects
    assert one.right < default_accuracy_bound(CLASSES) * one.asked
    assert one.reasons[0].startswith("other ways of asking it were not tried (--no-diagnosis)")
    assert (wrongly.plan.input_range, rightly.plan.input_range) == ("0,1", "0,255")
    assert wrongly.to_dict()["suspects"][0]["reasons"] == list(one.reasons)


def test_a_suspect_that_is_asked_rightly_is_not_proven() -> None:
    verdict = verify(KEY, honest(KEY))
    assert (verdict.decision, verdict.suspects[0].right, verdict.suspects[0].reasons) == ("not proven", 60, ())


def test_a_copy_that_says_nothing_but_secret_labels_is_proven() -> None:
    suspect = wanting(KEY.queries.images.numpy(), KEY.queries.labels.numpy())
    verdict = verify(KEY, suspect)
    assert (verdict.decision, verdict.suspects[0].right) == ("proven", 0)


def test_the_bound_is_the_askers() -> None:
    suspect = honest(KEY, BYTES)
    assert verify(KEY, suspect, accuracy_bound=0).decision == "not proven"
    assert verify(KEY, honest(KEY), accuracy_bound=1.0).decision == "not proven"
    half = np.where(np.arange(60) % 2 == 0, KEY.queries.truth.numpy(), 9)
    found = [
        verify(KEY, wanting(KEY.queries.images.numpy(), half, order=range(10)), accuracy_bound=bound, no_diagnosis=True)
        for bound in (0.5, 0.51)
    ]
    assert [one.decision for one in found] == ["not proven", "inconclusive"]


def test_one_that_cannot_be_told_makes_several_inconclusive() -> None:
    wrongly, rightly, copy = honest(KEY, BYTES), honest(KEY), copied(KEY)
    both = verify(KEY, wrongly, rightly, no_diagnosis=True)
    assert both.decision == "inconclusive"
    assert [one.decision for one in both.suspects] == ["inconclusive", "not proven"]
    assert verify(KEY, wrongly, rightly, copy, no_diagnosis=True).decision == "proven"


def test_cells_of_several_images_are_counted_as_matches_are() -> None:
    key = random_key(20, per_cell=3)
    (one,) = verify(key, honest(key)).suspects
    assert (one.asked, one.images, one.right) == (20, 60, 20)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"accuracy_bound": 1.5}, "accuracy_bound: 1.5 is not allowed: must be 0 to 1"),
        ({"accuracy_bound": float("nan")}, "accuracy_bound: nan is not allowed"),
        ({"input_range": "0-255"}, "input_range: '0-255' is not allowed"),
        ({"input_range": "imagenet"}, "input_range: imagenet is for 3 channels, the key's images have 1"),
        ({"layout": "hwc"}, "layout: 'hwc' is not allowed; allowed: nchw, nhwc"),
        ({"classes": "0,1"}, "classes: '0,1' is not allowed"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(fields: dict[str, Any], words: str) -> None:
    def never(_: object) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match=r"not allowed|is for") as told:
        verify(KEY, never, **fields)
    assert str(told.value).startswith(words)


def test_null_models_and_control_are_asked_in_the_usual_way() -> None:
    control, null = honest(KEY), honest(KEY)
    verdict = verify(KEY, copied(KEY, BYTES), input_range="0,255", control=control, null_models=[null])
    assert verdict.decision == "proven"


def test_answers_by_name() -> None:
    names = ("ape", "bee", "cat", "dog")
    key = replace(KEY, class_names=names)
    numbers = copied(key)
    verdict = verify(key, lambda images: [names[one] for one in numbers(images)])
    assert (verdict.decision, verdict.suspects[0].form) == ("proven", "labels")
    with pytest.raises(ValueError, match=r"answers with names such as .* and the key has none: say by --classes"):
        verify(KEY, lambda images: [names[one] for one in numbers(images)])
    foreign = verify(key, lambda images: ["whale"] * len(images), no_diagnosis=True)
    assert (foreign.decision, foreign.suspects[0].no_class) == ("inconclusive", 60)
    assert any("60 of 60 answers" in note and "name no class of the key" in note for note in foreign.notes)


def served(case: VerificationCase, shown: InputFormat) -> Callable[[Asked], Reply]:
    """What a server replies that holds the key's network and wants its images `shown` so."""
    say = answers(case.key)
    levels = shown.present(np.arange(256, dtype=np.uint8)[:, None, None, None]).ravel()

    def reply(asked: Asked) -> Reply:
        heard = np.abs(asked.images[..., None].astype(np.float32) - levels).argmin(-1).astype(np.uint8)
        return Reply({"logits": say(heard).tolist()})

    return reply


def test_an_endpoint_that_wants_another_range(ask: Ask, case: VerificationCase, tmp_path: Path) -> None:
    shutil.copy(case.home / "own.npz", tmp_path)
    with answering(served(case, InputFormat("-1,1"))) as server:
        status, found = ask("--suspect", server.uri, "--input-range", "1,0")
        (one,) = found["suspects"]
        asked = len(server.asked)
        assert (status, found["decision"]) == (4, "inconclusive")
        assert any(reason.startswith("right with --input-range=-1,1: ") for reason in one["reasons"]), one["reasons"]
        assert 0 < one["tried"] <= 50 * 12
        again = ask("--suspect", server.uri, "--input-range", "1,0")
        assert (again[0], again[1]["suspects"][0]) == (4, one)
        assert len(server.asked) == asked, "what was found out is not asked again"
        for words in (["--input-range=-1,1"], ["--input-range", "-1,1"]):
            status, found = ask("--suspect", server.uri, *words)
            assert (status, found["decision"], found["suspects"][0]["reasons"]) == (0, "proven", [])


def test_mistakes_name_their_option(say: Say, case: VerificationCase) -> None:
    words = ("verify", "--key", str(case.key), "--suspect", str(case.independent))
    one_line(say(*words, "--input-range", "0-255"), "--input-range: '0-255' is not allowed; allowed: LOW,HIGH")
    one_line(say(*words, "--layout", "hwc"), "--layout")
    one_line(say(*words, "--classes", "0,1"), "--classes: '0,1' is not allowed; allowed: each of the key's 4 classes")
    one_line(say(*words, "--accuracy-bound", "2"), "--accuracy-bound: 2 is not allowed: must be 0 to 1")
