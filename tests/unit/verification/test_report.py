"""A verdict in words and on disk: a few lines, a page for strangers, sums to sign; mistakes are one line."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mwm.storage.store import WEIGHTS
from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.report.page import HASH, html_report
from mwm.verification.report.summary import summary_lines
from mwm.verification.verdict import TestResult
from mwm.verification.verify import verify
from mwm.watermarks.key import commitment, load_key
from tests.helpers.asking import Ask, Say, heard, one_line
from tests.helpers.http import answering
from tests.helpers.pages import Page
from tests.helpers.verifying import FILES, VerificationCase, answers, saying


def secretive(folder: Path, key: Path) -> bool:
    """Whether no file in a folder holds the secret of a key, in any way it might be written."""
    secret = load_key(key).secret
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return not any(form in content.lower() for form in (secret, secret.hex().encode()))


# What is written


def test_the_folder_can_be_checked_and_signed_and_tells_no_secret(
    ask: Ask, case: VerificationCase, tmp_path: Path
) -> None:
    _, found = ask("--suspect", case.key, "--suspect", case.independent)
    folder = tmp_path / found["report"]
    assert folder.parent == tmp_path / "results" / "verdicts"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count(": OK")) == (0, 4), done.stdout + done.stderr
    assert secretive(folder, case.key)
    for name in ("report.html", "handout.html"):
        report = Page((folder / name).read_text()).text
        told = ("proven to be a copy", found["key"]["commitment"], str(case.independent), "ssh-keygen -Y sign", "gpg ")
        assert all(words in report for words in told), name


def test_verdicts_are_no_sweeps(ask: Ask, say: Say, case: VerificationCase) -> None:
    ask("--suspect", case.independent)
    assert heard(say, "list") == "no sweeps in results\n"
    assert heard(say, "clean") == "nothing to remove\n"


def test_the_sum_of_a_folder_is_what_the_report_says(ask: Ask, case: VerificationCase, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    shutil.copytree(case.key, folder / "b" / "c")
    shutil.copy(case.key / WEIGHTS, folder)
    _, found = ask("--suspect", folder)
    done = subprocess.run(f"{HASH} | sha256sum", cwd=folder, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == found["suspects"][0]["sha256"]


def test_the_same_verdict_is_written_in_the_same_bytes(ask: Ask, case: VerificationCase, tmp_path: Path) -> None:
    """So that a signature stays valid."""
    words = ("--suspect", case.key, "--suspect", case.independent, "--null-models", case.null_sweep)
    folder = tmp_path / ask(*words)[1]["report"]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    time.sleep(1.1)
    ask(*words)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_people_read_a_few_calm_lines(say: Say, case: VerificationCase) -> None:
    key = load_key(case.key)
    status, out, err = say(
        "verify", "--key", str(case.key), "--suspect", str(case.key), "--commitment", commitment(key)
    )
    assert (status, err) == (0, "")
    assert len(out.splitlines()) < 16
    for words in ("30 queries in 1 request, of 30", "PROVEN at level 0.001", "results/verdicts/", "opens the commit"):
        assert words in out
    assert "without the key, such answers have a chance of 1 in " in out
    assert "within the limit of 1 in 1,000\n" in out
    assert "can be guessed" in out, "the secret is that of a sweep's seed"
    out = heard_with(3, say, "verify", "--key", str(case.key), "--suspect", str(case.independent))
    assert "NOT PROVEN" in out
    assert "does not mean independent" in out
    assert "nothing here shows the key to be older" in out


def test_no_p_value_is_shown_as_nothing(case: VerificationCase) -> None:
    found = verify(case.key, case.key)
    (suspect,) = found.suspects
    tiny: dict[str, Any] = {"p_value": 0.0, "log10_p": -954.24}
    tests = suspect.tests | {"rank_sum": TestResult(**tiny), "permutation": TestResult(p_value=0.0)}
    suspect = replace(suspect, tests=tests, adjusted_p_value=0.0, p_labels=0.0, log10_p_labels=-953.94, **tiny)
    found = replace(found, suspects=(suspect,) * 2, asked_now=(0, 0))
    said = "\n".join(summary_lines(found))
    page = Page(html_report(found)).text
    for text in (said, page):
        assert "1e-954" in text
        assert "by labels 1e-954" in text
        assert "< 1e-300 (permutation" in text
        assert " 0 (" not in text
    assert "a chance of 1 in 10^954, within" in said
    assert "A chance of 1 in 10⁹⁵⁴ is within" in page
    assert "adjusted < 1e-300" in page


def heard_with(status: int, say: Say, *words: str) -> str:
    found, out, err = say(*words)
    assert (found, err) == (status, "")
    return out


# Mistakes

MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "no key": (["--key", "nowhere"], ["nowhere"]),
    "another commitment": (["--commitment", "0" * 64], ["--commitment: 000", "not that of this key"]),
    "level": (["--level", "2"], ["--level: 2", "between 0 and 1"]),
    "no level": (["--level", "nan"], ["--level: nan"]),
    "too many queries": (["--queries", "31"], ["--queries: 31", "the key has 30"]),
    "no queries": (["--queries", "0"], ["--queries: 0"]),
    "batch": (["--batch", "0"], ["--batch: 0"]),
    "rate": (["--rate", "-1"], ["--rate: -1"]),
    "timeout": (["--timeout", "0"], ["--timeout: 0"]),
    "retries": (["--retries", "-1"], ["--retries: -1"]),
    "order": (["--order-seed", "-1"], ["--order-seed: -1"]),
    "no views": (["--views", "0"], ["--views: 0"]),
    "unknown control": (["--control", "what?"], ["--control: ", "what?"]),
    "no trust in the control": (["--control", "os:getcwd"], ["--control: os:getcwd", "--trust"]),
    "unknown suspect": (["--suspect", "what?"], ["--suspect: ", "what?"]),
    "no trust": (["--suspect", "os:getcwd"], ["--suspect: os:getcwd", "--trust"]),
    "no sweep": (["--null-models", "nowhere"], ["--null-models: nowhere", "results/NAME"]),
    "no MLflow": (["--tracking-uri", "nothing://"], ["--tracking-uri: 'nothing://'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_asked(
    mistake: str, say: Say, case: VerificationCase, tmp_path: Path
) -> None:
    words, said = MISTAKES[mistake]
    with answering(saying(answers(case.key))) as suspect:
        one_line(say("verify", "--key", str(case.key), "--suspect", suspect.uri, *words), *said)
        assert suspect.asked == []
    assert not list(tmp_path.rglob(ANSWERS))


def test_a_suspect_given_twice_is_a_mistake(say: Say, case: VerificationCase) -> None:
    twice = ("--suspect", "http://me:hunter2@host/x") * 2
    one_line(say("verify", "--key", str(case.key), *twice), "given twice", "http://me:***@host/x")


def test_a_folder_that_was_begun_otherwise_is_refused(ask: Ask, say: Say, case: VerificationCase) -> None:
    ask("--suspect", case.key, "--output", "mine")
    words = ("verify", "--key", str(case.key), "--output", "mine", "--suspect")
    one_line(say(*words, str(case.independent)), "--output: mine was begun otherwise: suspects")
    one_line(say(*words, str(case.key), "--level", "0.01"), "--output: mine was begun otherwise: level was 0.001")


def test_a_file_that_was_exchanged_is_another_suspect(
    ask: Ask, say: Say, case: VerificationCase, tmp_path: Path
) -> None:
    path = tmp_path / "suspect.safetensors"
    for source, status in ((case.independent, 3), (case.key, 0)):
        shutil.copy(source / "model.safetensors", path)
        assert ask("--suspect", path)[0] == status
    assert len(list((tmp_path / "results" / "verdicts").iterdir())) == 2


def test_a_password_is_neither_shown_nor_kept(ask: Ask, case: VerificationCase, tmp_path: Path) -> None:
    with answering(saying(answers(case.key))) as suspect:
        _, found = ask("--suspect", suspect.uri.replace("//", "//me:hunter2@"))
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hunter2" not in content
    assert found["suspects"][0]["name"] == suspect.uri.replace("//", "//***@")
