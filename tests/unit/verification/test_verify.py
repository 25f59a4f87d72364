"""The verdict: copies are proven, independent models are not; how suspects are asked, and what they may do."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.stats import binomial
from mwm.storage.store import WEIGHTS
from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.querying.order import order_queries
from mwm.verification.suspects.checkpoint import read
from mwm.watermarks.evidence import weigh
from mwm.watermarks.key import commitment, load_key
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.http import Reply, answering
from tests.helpers.launching import command, environment
from tests.helpers.servers import free_port
from tests.helpers.serving import mlflow_scoring
from tests.helpers.verifying import CLASSES, QUERIES, SHAPE, VerificationCase, answers, saying, seen
from tests.unit.verification.suspects.test_mlflow_models import log

CHANCE = {"p_value": float, "log10_p": float}
SUSPECT = {
    **{"name": str, "access": str, "sha256": str, "form": str, "decision": str, "began": str, "ended": str},
    **{"matches": int, "asked": int, "images": int, "unanswered": int, "no_class": int, "requests": int},
    **{"match_rate": float, "interval": [float], "adjusted_p_value": float, **CHANCE},
    **{"p_labels": float, "log10_p_labels": float, "p_scores": float, "log10_p_scores": float},
    **{"wrong_answers": int, "mean_rank": float, "cells": [int], "seconds": float},
    **{"right": int, "secret_first": int, "limit": float, "stopped": type(None), "more": type(None)},
    **{"reasons": [], "tried": int, "compared": [{"who": str, "networks": int, "right": float, "matches": float}]},
    "tests": {
        **{"rank_sum": CHANCE, "sequential": CHANCE, "uncontrolled": CHANCE, "unconditional": CHANCE},
        "permutation": {"p_value": float},
        "empirical": {"p_value": float, "as_many": int, "null_models": int},
    },
}
FORMAT = {
    **{"format": int, "decision": str, "notes": [str], "report": str, "suspects": [SUSPECT], "asked_now": [int]},
    "key": {
        **{"commitment": str, "created": str, "rule": str, "scheme": str, "null": str},
        **{"committed": bool, "guessable": bool, "queries": int, "cells": int, "classes": int, "class_names": []},
    },
    "plan": {
        **{"test": str, "level": float, "cells": int, "views": int, "images": int, "order_seed": int},
        **{"input_range": str, "layout": str, "class_order": str, "accuracy_bound": float, "answers": str},
        "control": {"name": str, "access": str, "sha256": str},
    },
}
"""What `--json` prints, as names and types; a list has one type."""


def shape(tree: Any) -> Any:
    """Names and types of a tree; of a list the type of its items, which are alike."""
    if isinstance(tree, dict):
        return {name: shape(value) for name, value in tree.items()}
    if isinstance(tree, list):
        kinds = [shape(one) for one in tree]
        assert all(kind == kinds[0] for kind in kinds)
        return kinds[:1]
    return type(tree)


def at_random(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.random.default_rng(images.sum()).integers(0, CLASSES, len(images))


# What is decided


def test_a_copy_is_proven_and_the_verdict_says_so_in_full(ask: Ask, case: VerificationCase, tmp_path: Path) -> None:
    began = time.monotonic()
    null_models = ("--null-models", case.null_sweep)
    status, found = ask("--suspect", case.key, "--control", case.independent, *null_models)
    assert time.monotonic() - began < 3, "imports were done before"
    (suspect,) = found["suspects"]
    assert shape(found) == FORMAT
    assert (status, found["decision"], suspect["decision"]) == (0, "proven", "proven")
    assert suspect["access"] == "checkpoint"
    matches = suspect["matches"]
    assert matches >= 25, "the copy was not trained well enough to be a test"
    assert suspect["tests"]["unconditional"] == {
        "p_value": binomial.p_value(matches, QUERIES, CLASSES),
        "log10_p": binomial.log10_p(matches, QUERIES, CLASSES),
    }
    assert suspect["p_value"] == suspect["adjusted_p_value"] == 2 * min(suspect["p_labels"], suspect["p_scores"])
    assert suspect["tests"]["rank_sum"] == {"p_value": suspect["p_value"], "log10_p": suspect["log10_p"]}
    assert sorted(suspect["cells"]) == list(range(QUERIES))
    assert found["key"]["null"] == "uniform_wrong_labels"
    assert found["plan"]["control"]["name"] == str(case.independent)
    assert suspect["interval"][0] < suspect["match_rate"] <= suspect["interval"][1]
    assert all(test["p_value"] <= 1e-3 for name, test in suspect["tests"].items() if name != "empirical")
    # Three victims and a student are null models; the control has the seed of this very key, and is none.
    assert suspect["tests"]["empirical"] == {"p_value": 1 / 5, "as_many": 0, "null_models": 4}
    assert any("1 null models were left out" in note for note in found["notes"])
    assert any(
        "4 null models are too few for this level: their p is never below 0.2" in note for note in found["notes"]
    )
    assert any("one report counts" in note for note in found["notes"])
    folder = tmp_path / found["report"]
    kept = {name: value for name, value in found.items() if name not in ("report", "asked_now")}
    assert json.loads((folder / "verdict.json").read_text()) == kept


def test_an_independent_model_is_not_proven(ask: Ask, case: VerificationCase) -> None:
    status, found = ask("--suspect", case.independent)
    assert (status, found["decision"]) == (3, "not proven")
    assert found["suspects"][0]["p_value"] > 1e-3
    assert found["suspects"][0]["tests"]["empirical"] is None


def test_random_labels_are_inconclusive(ask: Ask) -> None:
    with answering(saying(at_random)) as suspect:
        status, found = ask("--suspect", suspect.uri)
        plain = ask("--suspect", suspect.uri, "--accuracy-bound", "0")
    assert (status, found["decision"]) == (4, "inconclusive")
    assert (plain[0], plain[1]["decision"]) == (3, "not proven")
    (finding,) = found["suspects"]
    assert (finding["form"], finding["p_scores"], finding["log10_p_scores"]) == ("labels", None, None)
    assert finding["p_value"] == finding["p_labels"]


def test_labels_that_count_from_one_are_pointed_out(ask: Ask, case: VerificationCase) -> None:
    copy = answers(case.key)
    with answering(saying(lambda images: copy(images).argmax(1) + 1)) as suspect:
        status, found = ask("--suspect", suspect.uri)
    count = found["suspects"][0]["no_class"]
    assert (status, found["decision"]) == (4, "inconclusive")
    assert 0 < count < QUERIES
    assert f"{count} of {QUERIES} answers" in found["notes"][0]
    assert "does it count from 1" in found["notes"][0]


def test_a_level_that_cannot_be_reached_is_refused_unasked(say: Say, case: VerificationCase) -> None:
    with answering(saying(answers(case.key))) as suspect:
        words = ("verify", "--key", str(case.key), "--suspect", suspect.uri, "--queries", "6", "--level", "1e-3")
        one_line(say(*words), "--level: 0.001 is out of reach", "6 secret labels of 6")
        one_line(say(*words, "--sequential"), "--level: 0.001 is out of reach")
        assert suspect.asked == []


def test_several_suspects_share_the_level(ask: Ask, case: VerificationCase) -> None:
    """Holm: the smallest p counts as many times as there are suspects; others beside a copy stay unproven."""
    _, alone = ask("--suspect", case.key)
    status, found = ask("--suspect", case.independent, "--suspect", case.key)
    independent, copy = found["suspects"]
    assert (status, independent["decision"], copy["decision"]) == (0, "not proven", "proven")
    assert copy["p_value"] == alone["suspects"][0]["p_value"]
    assert copy["adjusted_p_value"] == 2 * copy["p_value"]
    assert independent["adjusted_p_value"] == independent["p_value"]


def test_a_request_holds_a_hundred_queries(ask: Ask, case: VerificationCase) -> None:
    with answering(saying(answers(case.key))) as suspect:
        _, found = ask("--suspect", suspect.uri)
        assert [len(one.images) for one in suspect.asked] == [QUERIES]
        assert found["suspects"][0]["requests"] == 1
        assert found["suspects"][0]["form"] == "scores"
        for _ in range(2):
            ask("--suspect", suspect.uri, "--batch", "8", "--output", "eights")
            assert [len(one.images) for one in suspect.asked] == [QUERIES, 8, 8, 8, 6], "asked again"


def test_an_order_is_the_same_for_all_who_know_its_seed(ask: Ask, case: VerificationCase) -> None:
    one, two, other = (
        ask("--suspect", case.key, "--queries", "20", "--order-seed", seed, "--output", name)[1]
        for seed, name in (("7", "one"), ("7", "two"), ("8", "other"))
    )
    first, second, third = (found["suspects"][0]["cells"] for found in (one, two, other))
    assert first == second == order_queries(load_key(case.key), None, 7).numbers[:20]
    assert sorted(first) != sorted(third)
    assert any("chosen before any answer was seen" in note for note in one["notes"])


# What suspects do


def test_a_suspect_that_is_away_for_a_moment_is_asked_again(ask: Ask, case: VerificationCase) -> None:
    with answering(Reply(status=503), Reply(status=429), saying(answers(case.key))) as suspect:
        status, _ = ask("--suspect", suspect.uri)
    assert status == 0


@pytest.mark.parametrize(
    "fault",
    [
        Reply({"labels": [1, 2]}),
        Reply({"logits": [[1, 2, 3]]}),
        Reply({"labels": [{}] * 10}),
        Reply(b"no JSON"),
        Reply(status=403),
        Reply(status=500),
        Reply(hold=1.0),
    ],
    ids=repr,
)
def test_silence_ends_it_in_one_line_and_nothing_is_lost(
    fault: Reply, say: Say, case: VerificationCase, tmp_path: Path
) -> None:
    honest = saying(answers(case.key))
    with answering(honest, fault, honest) as suspect:
        limits = ("--batch", "10", "--retries", "0", "--timeout", "0.5")
        words = ("verify", "--key", str(case.key), *limits, "--suspect", suspect.uri)
        one_line(say(*words), suspect.uri, "run the same command again", "10 of 30 answers are kept")
        (folder,) = (tmp_path / "results" / "verdicts").iterdir()
        assert [path.name for path in folder.iterdir()] == [ANSWERS]
        status, out, err = say(*words)
        assert (status, err) == (0, "")
        first, refused, *rest = suspect.asked
        images = np.concatenate([seen(one) for one in (first, *rest)])
        assert np.array_equal(images, order_queries(load_key(case.key), None, 0).images), (
            "an answer was lost, or asked twice"
        )
        assert np.array_equal(refused.images, rest[0].images)
        assert "30 queries in 3 requests, of 30" in out


def test_other_classes_are_a_mistake(say: Say, case: VerificationCase) -> None:
    with answering(saying(lambda images: np.zeros((len(images), CLASSES + 1)))) as suspect:
        one_line(say("verify", "--key", str(case.key), "--suspect", suspect.uri), "5 classes, the key has 4")


def test_what_stays_unanswered_does_not_match(ask: Ask, case: VerificationCase) -> None:
    asked, honest = order_queries(load_key(case.key), None, 0), answers(case.key)
    refused = {image.tobytes() for image in asked.images[:5]}

    def say(images: NDArray[np.uint8]) -> Any:
        return np.array([None]) if any(image.tobytes() in refused for image in images) else honest(images)

    with answering(saying(say)) as suspect:
        status, found = ask("--suspect", suspect.uri, "--skip-unanswered")
    (finding,) = found["suspects"]
    rest = asked.part(5, QUERIES)
    scores = honest(rest.images)
    evidence = weigh(scores, rest.labels, rest.truth, classes=CLASSES)
    matches = int((scores.argmax(1) == rest.labels).sum())
    assert (status, finding["unanswered"], finding["asked"], finding["matches"]) == (0, 5, QUERIES, matches)
    assert finding["p_value"] == pytest.approx(evidence.p_value), "silence is no evidence"


@pytest.mark.slow
def test_a_copy_that_mlflow_serves_is_proven(ask: Ask, case: VerificationCase, uri: str, tmp_path: Path) -> None:
    """As its owner would prove it: by the endpoint alone, without trust in what runs there."""
    made = log(uri, of=partial(read, case.key / WEIGHTS, shape=SHAPE, classes=CLASSES))
    with mlflow_scoring(made.model, made.uri, tmp_path, free_port()) as address:
        committed = commitment(load_key(case.key))
        status, found = ask("--suspect", address, "--commitment", committed, "--tracking-uri", uri)
    _, here = ask("--suspect", case.key)
    trusted, local = ask("--suspect", made.model, "--trust", "--tracking-uri", uri)
    assert (status, trusted) == (0, 0)
    for finding, access in ((found["suspects"][0], "endpoint"), (local["suspects"][0], "mlflow")):
        assert (finding["access"], finding["requests"]) == (access, 1)
        assert finding["tests"] == here["suspects"][0]["tests"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_killed_command_resumes_where_it_was(
    number: signal.Signals, status: int, case: VerificationCase, tmp_path: Path
) -> None:
    honest = answers(case.key)

    def slow(images: NDArray[np.uint8]) -> Any:
        time.sleep(0.2 if len(suspect.asked) < 10 else 0.0)
        return honest(images)

    with answering(saying(slow)) as suspect:
        words = command("verify", "--key", case.key, "--suspect", suspect.uri, "--batch", "2", "--json")
        process = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while len(suspect.asked) < 5:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(30) == status
        first = len(suspect.asked)
        done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        asked = [image.tobytes() for one in suspect.asked for image in one.images]
    assert done.returncode == 0, done.stderr
    assert first < QUERIES / 2
    assert len(set(asked)) == QUERIES
    assert len(asked) - QUERIES <= 2, "more than the request that was under way has been asked for twice"
    assert json.loads(done.stdout)["suspects"][0]["asked"] == QUERIES
