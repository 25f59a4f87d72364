"""The verdict: copies are shown, innocents are not; what is asked, kept, written and recorded."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mwm.key import commitment, load
from numpy.typing import NDArray

from mwm.inquiry import ANSWERS, questions
from mwm.judge import still_needed
from mwm.verdict import log10_p, p_value
from tests.asking import Say, heard, one_line
from tests.court import CLASSES, QUERIES, Court, answers, court, witness
from tests.launching import command, environment
from tests.small import Loaded

FILES = ("SHA256SUMS", ANSWERS, "report.md", "verdict.json")

SUSPECT = {
    **{"name": str, "access": str, "sha256": str, "decision": str, "began": str, "ended": str},
    **{"matches": int, "asked": int, "unanswered": int, "requests": int, "queries": [int]},
    **{"match_rate": float, "interval": [float], "p_value": float, "log10_p": float, "adjusted_p_value": float},
    "seconds": float,
    "tests": {
        "binomial": {"p_value": float, "log10_p": float},
        "sequential": {"p_value": float, "log10_p": float},
        "permutation": {"p_value": float},
        "rank": {"p_value": float},
        "empirical": {"p_value": float, "as_many": int, "innocents": int},
    },
}
FORMAT = {
    **{"format": int, "decision": str, "notes": [str], "report": str, "suspects": [SUSPECT]},
    "key": {
        **{"commitment": str, "created": str, "rule": str, "scheme": str},
        **{"committed": bool, "guessable": bool, "queries": int, "classes": int},
    },
    "plan": {"test": str, "level": float, "queries": int, "order_seed": int},
}
"""What `--json` prints, as names and types; a list has one type."""


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, sets: Loaded) -> Court:
    return court(tmp_path_factory.mktemp("court"), sets)


Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def ask(say: Say, hall: Court) -> Ask:
    """The command on the key of `hall`: its exit status and the verdict."""

    def run(*words: str | Path) -> tuple[int, dict[str, Any]]:
        status, out, err = say("verify", "--key", str(hall.key), "--json", *map(str, words))
        assert err == ""
        return status, json.loads(out)

    return run


def shape(tree: Any) -> Any:
    """Names and types of a tree; of a list the type of its items, which are alike."""
    if isinstance(tree, dict):
        return {name: shape(value) for name, value in tree.items()}
    if isinstance(tree, list):
        first, *others = map(shape, tree)
        assert all(other == first for other in others)
        return [first]
    return type(tree)


def secretive(folder: Path, key: Path) -> bool:
    """Whether no file in a folder holds the secret of a key, in any way it might be written."""
    secret = load(key).secret
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return not any(form in content.lower() for form in (secret, secret.hex().encode()))


def at_random(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.random.default_rng(images.sum()).integers(0, CLASSES, len(images))


# What is decided


def test_a_copy_is_owned_and_says_so_in_full(ask: Ask, hall: Court, tmp_path: Path) -> None:
    status, found = ask("--suspect", hall.key, "--null", hall.null)
    (suspect,) = found["suspects"]
    assert shape(found) == FORMAT
    assert (status, found["decision"], suspect["decision"]) == (0, "owned", "owned")
    assert suspect["access"] == "checkpoint"
    matches = suspect["matches"]
    assert matches >= 25, "the copy was not trained well enough to be a test"
    assert suspect["tests"]["binomial"] == {
        "p_value": p_value(matches, QUERIES, CLASSES),
        "log10_p": log10_p(matches, QUERIES, CLASSES),
    }
    assert suspect["p_value"] == suspect["adjusted_p_value"] == p_value(matches, QUERIES, CLASSES)
    assert sorted(suspect["queries"]) == list(range(QUERIES))
    assert suspect["interval"][0] < suspect["match_rate"] <= suspect["interval"][1]
    assert all(test["p_value"] <= 1e-3 for name, test in suspect["tests"].items() if name != "empirical")
    # Three victims and a student are innocents; the control was scored on this very key, and is none.
    assert suspect["tests"]["empirical"] == {"p_value": 1 / 5, "as_many": 0, "innocents": 4}
    assert any("1 models of --null were left out" in note for note in found["notes"])
    folder = tmp_path / found["report"]
    assert json.loads((folder / "verdict.json").read_text()) == {k: v for k, v in found.items() if k != "report"}


def test_an_innocent_is_not_shown(ask: Ask, hall: Court) -> None:
    status, found = ask("--suspect", hall.innocent)
    assert (status, found["decision"]) == (1, "not shown")
    assert found["suspects"][0]["p_value"] > 1e-3
    assert found["suspects"][0]["tests"]["empirical"] is None


def test_random_labels_are_not_shown(ask: Ask) -> None:
    with witness(at_random) as suspect:
        status, found = ask("--suspect", suspect.address)
    assert (status, found["decision"]) == (1, "not shown")
    assert found["suspects"][0]["tests"]["rank"] is None, "labels have no ranks"


def test_a_level_that_cannot_be_reached_is_refused_unasked(say: Say, hall: Court) -> None:
    with witness(answers(hall.key)) as suspect:
        words = ("verify", "--key", str(hall.key), "--suspect", suspect.address, "--queries", "6", "--level", "1e-3")
        one_line(say(*words), "--level: 0.001 is out of reach", "6 matches of 6")
        one_line(say(*words[:-1], "1e-2", "--sequential"), "--level: 0.01 is out of reach")
        assert suspect.asked == []


def test_several_suspects_share_the_level(ask: Ask, hall: Court) -> None:
    """Holm: the smallest p counts as many times as there are suspects; innocents beside a copy stay innocent."""
    _, alone = ask("--suspect", hall.key)
    status, found = ask("--suspect", hall.innocent, "--suspect", hall.key)
    innocent, copy = found["suspects"]
    assert (status, innocent["decision"], copy["decision"]) == (0, "not shown", "owned")
    assert copy["p_value"] == alone["suspects"][0]["p_value"]
    assert copy["adjusted_p_value"] == 2 * copy["p_value"]
    assert innocent["adjusted_p_value"] == innocent["p_value"]


def test_holm_can_change_the_decision(ask: Ask, hall: Court) -> None:
    """Two suspects that would each be shown alone, at a level that only one of them reaches doubled."""
    key = load(hall.key)
    asked = questions(key, None, 0)

    def half_right(wrong: int) -> Callable[[NDArray[np.uint8]], NDArray[np.int64]]:
        def say(images: NDArray[np.uint8]) -> NDArray[np.int64]:
            places = [int((asked.images == image).all((1, 2, 3)).argmax()) for image in images]
            return np.where(np.array(places) < wrong, asked.truth[places], asked.labels[places])

        return say

    weak, strong = p_value(QUERIES - 12, QUERIES, CLASSES), p_value(QUERIES - 6, QUERIES, CLASSES)
    level = str(1.5 * weak)
    assert strong < weak / 10
    with witness(half_right(12)) as one, witness(half_right(12)) as two, witness(half_right(6)) as three:
        assert ask("--suspect", one.address, "--level", level)[0] == 0
        status, found = ask("--suspect", one.address, "--suspect", two.address, "--level", level)
        assert (status, [suspect["decision"] for suspect in found["suspects"]]) == (1, ["not shown"] * 2)
        _, found = ask("--suspect", one.address, "--suspect", three.address, "--level", level)
        assert [suspect["decision"] for suspect in found["suspects"]] == ["owned", "owned"], (
            "the rest share what is left"
        )


# How a suspect is asked


def test_a_request_holds_a_hundred_queries(ask: Ask, hall: Court) -> None:
    with witness(answers(hall.key)) as suspect:
        _, found = ask("--suspect", suspect.address)
        assert [len(images) for images in suspect.asked] == [QUERIES]
        assert found["suspects"][0]["requests"] == 1
        assert found["suspects"][0]["tests"]["rank"]["p_value"] < 1e-3
        suspect.asked.clear()
        ask("--suspect", suspect.address, "--batch", "8", "--report", "eights")
        assert [len(images) for images in suspect.asked] == [8, 8, 8, 6]
        ask("--suspect", suspect.address, "--batch", "8", "--report", "eights")
        assert len(suspect.asked) == 4, "what was asked is not asked again"


def test_an_order_is_the_same_for_all_who_know_its_seed(ask: Ask, hall: Court) -> None:
    one, two, other = (
        ask("--suspect", hall.key, "--queries", "20", "--order-seed", seed, "--report", name)[1]
        for seed, name in (("7", "one"), ("7", "two"), ("8", "other"))
    )
    first, second, third = (found["suspects"][0]["queries"] for found in (one, two, other))
    assert first == second == questions(load(hall.key), None, 7).numbers[:20]
    assert sorted(first) != sorted(third)
    assert any("chosen before any answer was seen" in note for note in one["notes"])


def test_the_sequential_test_stops_as_soon_as_it_can(ask: Ask, hall: Court) -> None:
    """One query less, and it would not be decided: with each request no more are asked than must match at least."""
    with witness(answers(hall.key)) as suspect:
        status, found = ask("--suspect", suspect.address, "--sequential", "--level", "1e-2")
        (finding,) = found["suspects"]
        sizes = [len(images) for images in suspect.asked]
    assert (status, finding["decision"]) == (0, "owned")
    assert finding["p_value"] <= 1e-2
    assert finding["asked"] == sum(sizes) < QUERIES
    assert max(sizes) <= 10
    asked = questions(load(hall.key), None, 0)
    matched = answers(hall.key)(asked.images).argmax(1) == asked.labels
    assert still_needed(matched[: finding["asked"] - 1], QUERIES, 1e-2, CLASSES) > 0, "one was asked in vain"
    assert any("only the sequential p" in note for note in found["notes"])


def test_the_sequential_test_gives_up_when_nothing_can_decide_it(ask: Ask) -> None:
    with witness(lambda images: np.full(len(images), 99)) as suspect:
        status, found = ask("--suspect", suspect.address, "--sequential", "--level", "1e-4")
        assert sum(map(len, suspect.asked)) < QUERIES
    assert (status, found["suspects"][0]["matches"]) == (1, 0)


# What suspects do


def test_a_suspect_that_is_away_for_a_moment_is_asked_again(ask: Ask, hall: Court) -> None:
    with witness(answers(hall.key)) as suspect:
        suspect.faults = [503, 429]
        status, _ = ask("--suspect", suspect.address)
    assert status == 0


@pytest.mark.parametrize(
    "fault", ['{"labels": [1, 2]}', '{"logits": [[1, 2, 3]]}', "no JSON", '{"labels": ["a"]}', 403]
)
def test_answers_that_cannot_be_used_end_it_in_one_line(
    fault: int | str, say: Say, hall: Court, tmp_path: Path
) -> None:
    words = ("verify", "--key", str(hall.key), "--batch", "10", "--retries", "0", "--suspect")
    with witness(answers(hall.key)) as suspect:
        ask_it = (*words, suspect.address)
        suspect.faults = [200, fault]
        one_line(say(*ask_it), suspect.address, "run the same command again", "10 of 30 answers are kept")
        (folder,) = (tmp_path / "results" / "verdicts").iterdir()
        assert [path.name for path in folder.iterdir()] == [ANSWERS]
        status, out, err = say(*ask_it)
        assert (status, err) == (0, "")
        assert [len(images) for images in suspect.asked] == [10, 10, 10], "an answer was lost, or asked for twice"
        assert "30 of 30 queries" in out


def test_other_classes_are_a_mistake(say: Say, hall: Court) -> None:
    with witness(lambda images: np.zeros((len(images), CLASSES + 1))) as suspect:
        one_line(say("verify", "--key", str(hall.key), "--suspect", suspect.address), "5 classes, the key has 4")


def test_what_stays_unanswered_does_not_match(ask: Ask, hall: Court) -> None:
    refused = {image.tobytes() for image in questions(load(hall.key), None, 0).images[:5]}
    honest = answers(hall.key)

    def say(images: NDArray[np.uint8]) -> Any:
        return np.array([None]) if any(image.tobytes() in refused for image in images) else honest(images)

    _, whole = ask("--suspect", hall.key)
    with witness(say) as suspect:
        status, found = ask("--suspect", suspect.address, "--skip-unanswered", "--retries", "0")
    (finding,) = found["suspects"]
    assert (status, finding["unanswered"], finding["asked"]) == (0, 5, QUERIES)
    assert finding["matches"] <= whole["suspects"][0]["matches"] - 5 + QUERIES - whole["suspects"][0]["matches"]
    assert finding["p_value"] == p_value(finding["matches"], QUERIES, CLASSES)


@pytest.mark.slow
def test_a_killed_inquiry_goes_on_where_it_was(hall: Court, tmp_path: Path) -> None:
    with witness(answers(hall.key)) as suspect:
        suspect.pause = 0.2
        words = command("verify", "--key", hall.key, "--suspect", suspect.address, "--batch", "2", "--json")
        process = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while len(suspect.asked) < 5:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
        process.wait()
        suspect.pause, first = 0.0, len(suspect.asked)
        done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        asked = [image.tobytes() for images in suspect.asked for image in images]
    assert done.returncode == 0, done.stderr
    assert first < QUERIES / 2
    assert len(set(asked)) == QUERIES
    assert len(asked) - QUERIES <= 2, "more than the request that was under way has been asked for twice"
    assert json.loads(done.stdout)["suspects"][0]["asked"] == QUERIES


# What is written


def test_the_folder_can_be_checked_and_signed_and_tells_no_secret(ask: Ask, hall: Court, tmp_path: Path) -> None:
    _, found = ask("--suspect", hall.key, "--suspect", hall.innocent)
    folder = tmp_path / found["report"]
    assert folder.parent == tmp_path / "results" / "verdicts"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count(": OK")) == (0, 3), done.stdout + done.stderr
    assert secretive(folder, hall.key)
    report = (folder / "report.md").read_text()
    for words in ("# Verdict: owned", found["key"]["commitment"], str(hall.innocent), "ssh-keygen -Y sign", "gpg "):
        assert words in report


def test_the_same_verdict_is_written_in_the_same_bytes(ask: Ask, hall: Court, tmp_path: Path) -> None:
    """So that a signature stays valid."""
    words = ("--suspect", hall.key, "--suspect", hall.innocent, "--null", hall.null)
    folder = tmp_path / ask(*words)[1]["report"]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    time.sleep(1.1)
    ask(*words)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_people_read_a_few_calm_lines(say: Say, hall: Court) -> None:
    key = load(hall.key)
    status, out, err = say(
        "verify", "--key", str(hall.key), "--suspect", str(hall.key), "--commitment", commitment(key)
    )
    assert (status, err) == (0, "")
    assert len(out.splitlines()) < 16
    for words in ("30 of 30 queries", "OWNED at level 0.001", "results/verdicts/", "the key opens the commitment"):
        assert words in out
    assert "can be guessed" in out, "the secret is that of a sweep's seed"
    out = heard_with(1, say, "verify", "--key", str(hall.key), "--suspect", str(hall.innocent))
    assert "NOT SHOWN" in out
    assert "does not mean innocent" in out
    assert "nothing here shows the key to be older" in out


def heard_with(status: int, say: Say, *words: str) -> str:
    found, out, err = say(*words)
    assert (found, err) == (status, "")
    return out


# Mistakes

MISTAKES = {
    "no key": (["--key", "nowhere"], "nowhere"),
    "another commitment": (["--commitment", "0" * 64], "--commitment: 000", "not that of this key"),
    "level": (["--level", "2"], "--level: 2", "between 0 and 1"),
    "no level": (["--level", "nan"], "--level: nan"),
    "too many queries": (["--queries", "31"], "--queries: 31", "the key has 30"),
    "no queries": (["--queries", "0"], "--queries: 0"),
    "batch": (["--batch", "0"], "--batch: 0"),
    "rate": (["--rate", "-1"], "--rate: -1"),
    "timeout": (["--timeout", "0"], "--timeout: 0"),
    "retries": (["--retries", "-1"], "--retries: -1"),
    "order": (["--order-seed", "-1"], "--order-seed: -1"),
    "unknown suspect": (["--suspect", "what?"], "--suspect: ", "what?"),
    "no trust": (["--suspect", "os:getcwd"], "--suspect: os:getcwd", "--trust"),
    "no sweep": (["--null", "nowhere"], "--null: nowhere", "results/NAME"),
    "no MLflow": (["--tracking-uri", "nothing://"], "--tracking-uri: 'nothing://'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_asked(mistake: str, say: Say, hall: Court, tmp_path: Path) -> None:
    words, *said = MISTAKES[mistake]
    with witness(answers(hall.key)) as suspect:
        one_line(say("verify", "--key", str(hall.key), "--suspect", suspect.address, *words), *said)
        assert suspect.asked == []
    assert not list(tmp_path.rglob(ANSWERS))


def test_a_suspect_given_twice_is_a_mistake(say: Say, hall: Court) -> None:
    twice = ("--suspect", "http://me:hunter2@host/x") * 2
    one_line(say("verify", "--key", str(hall.key), *twice), "given twice", "http://me:***@host/x")


def test_a_folder_that_was_begun_otherwise_is_refused(ask: Ask, say: Say, hall: Court) -> None:
    ask("--suspect", hall.key, "--report", "mine")
    words = ("verify", "--key", str(hall.key), "--report", "mine", "--suspect")
    one_line(say(*words, str(hall.innocent)), "--report: mine was begun otherwise: suspects")
    one_line(say(*words, str(hall.key), "--level", "0.01"), "--report: mine was begun otherwise: level was 0.001")


def test_a_file_that_was_exchanged_is_another_suspect(ask: Ask, say: Say, hall: Court, tmp_path: Path) -> None:
    path = tmp_path / "suspect.safetensors"
    for source, status in ((hall.innocent, 1), (hall.key, 0)):
        shutil.copy(source / "model.safetensors", path)
        assert ask("--suspect", path)[0] == status
    assert len(list((tmp_path / "results" / "verdicts").iterdir())) == 2


def test_a_password_is_neither_shown_nor_kept(ask: Ask, hall: Court, tmp_path: Path) -> None:
    with witness(answers(hall.key)) as suspect:
        _, found = ask("--suspect", suspect.address.replace("//", "//me:hunter2@"))
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hunter2" not in content
    assert found["suspects"][0]["name"] == suspect.address.replace("//", "//me:***@")


# MLflow


def test_each_suspect_is_one_run(ask: Ask, hall: Court, uri: str) -> None:
    words = ("--suspect", hall.key, "--suspect", hall.innocent, "--tracking-uri", uri)
    for _ in range(2):
        _, found = ask(*words)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("verdicts")
    assert experiment is not None
    runs = {run.data.tags["suspect"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == len(runs) == 2
    for finding in found["suspects"]:
        run = runs[finding["name"]]
        assert run.info.status == "FINISHED"
        assert run.data.tags["decision"] == finding["decision"]
        assert run.data.tags["key_commitment"] == found["key"]["commitment"]
        for name in ("matches", "p_value", "log10_p", "seconds"):
            assert math.isclose(run.data.metrics[name], finding[name])
        assert run.data.metrics["queries_asked"] == QUERIES
        assert [run.data.metrics["interval_low"], run.data.metrics["interval_high"]] == finding["interval"]
        assert run.data.params["test"] == "binomial"
        (folder,) = client.list_artifacts(run.info.run_id)
        kept = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, folder.path)]
        assert sorted(kept) == sorted(FILES)


def test_without_an_address_nothing_is_recorded(say: Say, hall: Court, tmp_path: Path) -> None:
    heard(say, "verify", "--key", str(hall.key), "--suspect", str(hall.key))
    assert not (tmp_path / "mlflow.db").exists()
