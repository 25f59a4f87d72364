"""The command again: what is not asked anew says so, what differs is another verdict, and silence decides nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.verification import procedure
from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.querying.order import order_queries
from mwm.verification.suspects.endpoints.credentials import TOKEN
from mwm.watermarks.key import commitment, load_key
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.http import Reply, answering
from tests.helpers.verifying import QUERIES, VerificationCase, answers, saying

CHANGING = """
from pathlib import Path
import numpy as np

def see(images):
    with Path("calls").open("a") as calls:
        calls.write("+")
    return np.load("says.npy")[: len(images)]
"""
"""A callable that says what a file holds, and counts how often it is asked."""


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The same again


def test_old_answers_are_not_told_as_new_ones(say: Say, ask: Ask, case: VerificationCase, tmp_path: Path) -> None:
    """A suspect that has changed is another one only for who asks it anew; what was written stays as it was."""
    asked = order_queries(load_key(case.key), None, 0)
    (tmp_path / "changing.py").write_text(CHANGING)
    np.save(tmp_path / "says.npy", asked.labels)
    words = ("--suspect", "changing:see", "--trust")
    status, found = ask(*words)
    (suspect,) = found["suspects"]
    assert (status, found["asked_now"]) == (0, [QUERIES])
    before = content(tmp_path / found["report"])
    np.save(tmp_path / "says.npy", asked.truth)
    status, same = ask(*words)
    assert (status, same["asked_now"]) == (0, [0])
    _, out, _ = say("verify", "--key", str(case.key), *words)
    when = f"{suspect['began']} to {suspect['ended']}"
    assert f"nothing now, the answers are from {when}; to ask anew, add --rerun, or name another output" in out
    assert (tmp_path / "calls").read_text() == "+"
    assert content(tmp_path / found["report"]) == before
    for number in (2, 3):
        status, fresh = ask(*words, "--rerun")
        assert (status, fresh["asked_now"]) == (3, [QUERIES])
        assert fresh["report"] == f"{found['report']}-{number}"
    assert (tmp_path / "calls").read_text() == "+++"
    assert content(tmp_path / found["report"]) == before


def test_again_takes_an_empty_folder_alone(ask: Ask, say: Say, case: VerificationCase, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    words = ("--suspect", str(case.key), "--output", "mine", "--rerun")
    assert ask(*words)[0] == 0
    one_line(say("verify", "--key", str(case.key), *words), "--rerun: mine holds answers already")


# Another verdict


def test_what_decides_who_answers_is_part_of_the_plan(
    ask: Ask, case: VerificationCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another query parameter, password or token may reach another model, though it is shown alike."""
    folders = []
    with answering(saying(answers(case.key))) as suspect:
        addresses = ("?key=quince", "?key=medlar", "?key=medlar")
        for place, (address, token) in enumerate(zip(addresses, ("", "", "127.0.0.1=sesame"), strict=True), start=1):
            monkeypatch.setenv(TOKEN, token)
            _, found = ask("--suspect", suspect.uri + "/" + address)
            assert found["suspects"][0]["name"] == suspect.uri + "/?***"
            assert len(suspect.asked) == place
            folders.append(found["report"])
    assert len(set(folders)) == 3
    kept = b"".join(path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file())
    assert not any(secret in kept for secret in (b"quince", b"medlar", b"sesame"))


def test_a_weaker_verdict_does_not_replace_a_stronger(
    ask: Ask, say: Say, case: VerificationCase, tmp_path: Path
) -> None:
    words = ("--suspect", str(case.independent))
    own = ("--commitment", commitment(load_key(case.key)))
    reports = {
        ask(*words, *more)[1]["report"]
        for more in ((), own, ("--null-models", case.null_sweep), (*own, "--null-models", case.null_sweep))
    }
    assert len(reports) == 4
    ask(*words, *own, "--output", "mine")
    before = content(tmp_path / "mine")
    weaker = say("verify", "--key", str(case.key), *words, "--output", "mine")
    one_line(weaker, "mine was begun otherwise: committed was true there and is false here")
    assert content(tmp_path / "mine") == before


# Silence


def test_the_silence_of_one_does_not_keep_the_others_from_being_asked(
    say: Say, ask: Ask, case: VerificationCase
) -> None:
    honest = saying(answers(case.key))
    with answering(Reply(status=403), honest) as silent, answering(honest) as other:
        suspects = ("--suspect", silent.uri, "--suspect", other.uri)
        said = say("verify", "--key", str(case.key), *suspects)
        one_line(said, f"{silent.uri}: refuses with 403", "0 of 30 answers are kept: when that is mended, run the same")
        assert other.uri not in said[2]
        status, found = ask(*suspects)
        assert (status, found["asked_now"]) == (0, [QUERIES, 0])
        assert len(other.asked) == 1


def test_an_interrupted_fresh_inquiry_says_how_to_go_on(say: Say, ask: Ask, case: VerificationCase) -> None:
    with answering(saying(answers(case.key)), Reply(status=403), saying(answers(case.key))) as suspect:
        words = ("--suspect", suspect.uri, "--rerun", "--batch", "20", "--output", "mine")
        one_line(say("verify", "--key", str(case.key), *words), "go on by --output mine without --rerun", "20 of 30")
        _, found = ask("--suspect", suspect.uri, "--output", "mine")
        assert found["asked_now"] == [10]


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "No space left on device; what was answered is kept: run it again\n"), (errno.EISDIR, "is kept\n")],
)
def test_only_what_may_pass_is_to_be_tried_again(
    number: int, said: str, say: Say, case: VerificationCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number), "mine/verdict.json")

    monkeypatch.setattr(procedure, "write_report", failing)
    status, _, err = say("verify", "--key", str(case.key), "--suspect", str(case.key), "--output", "mine")
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith("mine/verdict.json: ")
    assert err.endswith(said)


@pytest.mark.parametrize("fault", [Reply(status=503), Reply(hold=1.0)], ids=repr)
def test_an_outage_is_not_skipped(fault: Reply, say: Say, case: VerificationCase) -> None:
    with answering(saying(answers(case.key)), fault) as suspect:
        limits = ("--batch", "10", "--retries", "0", "--timeout", "0.5", "--skip-unanswered")
        said = say("verify", "--key", str(case.key), "--suspect", suspect.uri, *limits)
        one_line(said, "gave no answer in 1 attempt", "10 of 30 answers are kept: run the same command again")
        assert len(suspect.asked) == 2


def test_no_answer_at_all_decides_nothing(say: Say, case: VerificationCase, tmp_path: Path) -> None:
    with answering(Reply(status=404)) as suspect:
        words = ("--suspect", suspect.uri, "--skip-unanswered")
        one_line(say("verify", "--key", str(case.key), *words), "answered not one of 30 queries", "0 of 30")
    assert [path.name for path in (tmp_path / "results" / "verdicts").rglob("*.*")] == [ANSWERS]


def test_what_was_skipped_is_asked_once_more(ask: Ask, case: VerificationCase) -> None:
    first = order_queries(load_key(case.key), None, 0).images[0]
    honest, told = answers(case.key), []

    def mostly(images: NDArray[np.uint8]) -> Any:
        told.append(len(images))
        return np.array([None]) if len(told) < 99 and (images == first).all((1, 2, 3)).any() else honest(images)

    with answering(saying(mostly)) as suspect:
        words = ("--suspect", suspect.uri, "--skip-unanswered")
        assert ask(*words)[1]["suspects"][0]["unanswered"] == 1
        told += [0] * 99
        _, found = ask(*words)
    assert (found["suspects"][0]["unanswered"], found["asked_now"]) == (0, [1])


# Mistakes, and ours


def test_a_level_for_several_says_what_is_left_for_each(say: Say, case: VerificationCase) -> None:
    words = ("--suspect", str(case.key), "--suspect", str(case.independent), "--queries", "6", "--level", "0.002")
    one_line(say("verify", "--key", str(case.key), *words), "--level: 0.002, 0.001 for each of 2 suspects, is out of")


def test_a_remote_storage_holds_no_verdict(say: Say, case: VerificationCase, tmp_path: Path) -> None:
    words = ("verify", "--key", str(case.key), "--suspect", str(case.key), "--storage", "s3://bucket/place")
    one_line(say(*words), "--storage: s3://bucket/place holds no verdicts", "--output")
    assert not (tmp_path / "results").exists()
    assert say(*words, "--output", "mine")[0] == 0


def test_our_own_mistake_is_no_verdict(say: Say, case: VerificationCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's exit status for what nobody caught is 1, and that would mean `not proven`."""

    def fail(*_: object) -> None:
        raise RuntimeError("a mistake\nof https://me:hunter2@host")

    monkeypatch.setattr(procedure, "decide", fail)
    said = say("verify", "--key", str(case.key), "--suspect", str(case.key))
    one_line(said, "error: RuntimeError: a mistake of https://me:***@host")
