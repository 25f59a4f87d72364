"""Suspects that are somebody's code: whatever it does in its own process, here there is an answer or one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from mwm.verification.suspects import NoAnswerError, open_suspect
from mwm.verification.suspects.endpoints.credentials import TOKEN
from mwm.verification.suspects.outputs import Suspect
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.launching import ROOT
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, network, opened_here
from tests.unit.verification.suspects.test_network_files import to_onnx

BRIGHTEST = IMAGES.reshape(len(IMAGES), -1)[:, :CLASSES].argmax(1)

CODE = """
import os, signal, subprocess, sys, time
import numpy as np

def right(x):
    return x.reshape(len(x), -1)[:, :4].argmax(1)

def prints(x):
    print("a word")
    print("another", file=sys.stderr)
    os.write(1, b"raw\\n")
    return right(x)

def floods(x):
    print("x" * 2**22)
    return right(x)

def moves(x):
    os.chdir("/")
    return right(x)

def reads(x):
    assert sys.stdin.read() == ""
    return right(x)

def starts(x):
    subprocess.Popen(["sleep", "98765"])
    return right(x)

def pid(x):
    return np.full(len(x), os.getpid())

def hides(x):
    return np.full(len(x), int("MWM_SUSPECT_TOKEN" in os.environ))

def exits(x):
    os._exit(0)

def says_and_exits(x):
    print("no licence for this machine", flush=True)
    os._exit(0)

def leaves(x):
    sys.exit(0)

def crashes(x):
    os.kill(os.getpid(), signal.SIGSEGV)

def loops(x):
    while True:
        pass

def ignores(x):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)

def hogs(x):
    kept = []
    while True:
        kept.append(np.ones(2**21))

def closes(x):
    os.closerange(0, 2000)
    return right(x)

def forks(x):
    if os.fork():
        os._exit(3)
    time.sleep(1000)

def babbles(x):
    for number in range(3, 2000):
        try:
            os.write(number, b"\\xff" * 64)
        except OSError:
            pass
    return right(x)

def refuses_one(x):
    if (x == 1).all(axis=(1, 2, 3)).any():
        os._exit(1)
    return right(x)
"""

FAULTS = {
    "exits": "its process ended with status 0 without an answer",
    "says_and_exits": "ended with status 0 without an answer; its last words: no licence for this machine",
    "leaves": r"failed on images of shape \(23, 1, 6, 6\) \(SystemExit: 0\)",
    "crashes": "its process was ended by SIGSEGV without an answer",
    "loops": r"gave no answer within 1 s \(--timeout\)",
    "ignores": r"gave no answer within 1 s \(--timeout\)",
    "closes": "its process ended with status 1 without an answer",
    "forks": "its process ended with status 3 without an answer",
    "babbles": "said what is no answer",
}


def sleeper() -> str:
    """For how long what a suspect starts would sleep, which tells it from all others."""
    return f"98{os.getpid()}"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, in which we are, with a module of suspects; and one for temporary files beside it."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    (home / "theirs.py").write_text(CODE.replace("98765", sleeper()))
    monkeypatch.chdir(home)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return home


def opened(name: str, **options: Any) -> Suspect:
    return open_suspect(f"theirs:{name}", shape=SHAPE, classes=CLASSES, trust=True, **options)


@pytest.mark.parametrize("name", ["right", "prints", "floods", "moves", "reads", "starts", "refuses_one"])
def test_what_code_does_in_its_process_touches_nothing_here(
    name: str, theirs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    suspect = opened(name)
    for _ in range(2):
        assert np.array_equal(suspect(IMAGES), BRIGHTEST)
    assert Path.cwd() == theirs
    assert capfd.readouterr() == ("", "")
    del suspect
    assert not [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[1:] == [sleeper()]]


def test_it_is_another_process_without_our_secrets(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "host=secret")
    suspect = opened("pid")
    assert suspect(IMAGES)[0] == suspect(IMAGES)[0] != os.getpid()
    assert not opened("hides")(IMAGES).any()
    assert "theirs" not in sys.modules


@pytest.mark.parametrize("name", FAULTS)
def test_code_that_does_not_answer_is_one_line(name: str, theirs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    suspect = opened(name, timeout=1)
    for _ in range(2):  # it begins anew
        with pytest.raises(NoAnswerError, match=f"^theirs:{name}: .*{FAULTS[name]}") as told:
            suspect(IMAGES)
        assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")
    del suspect, told
    assert not [*(theirs.parent / "temporary").iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "access"), [("net.onnx", "onnx"), ("net.pt", "module")])
def test_a_network_answers_there_as_here(name: str, access: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(network(), path) if access == "module" else to_onnx(network(), path)
    suspect, here = open_suspect(path, shape=SHAPE, classes=CLASSES, trust=True), opened_here(path)
    assert (suspect.name, suspect.access, here.access) == (str(path), access, access)
    for presentation in (UNIT_RANGE, InputFormat("0,255")):
        assert np.array_equal(suspect.shown(presentation)(IMAGES), here.shown(presentation)(IMAGES))
    with pytest.raises(ValueError, match="answers with scores of 4 classes, the key has 3"):
        open_suspect(path, shape=SHAPE, classes=3, trust=True)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")
def test_memory_has_a_limit(theirs: Path) -> None:
    suspect = opened("hogs", memory_limit=0.25)
    with pytest.raises(NoAnswerError, match=r"took more than 0\.25 GiB of memory \(--memory-limit\)"):
        suspect(IMAGES)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os\nos._exit(0)", "its process ended with status 0 without an answer"),
        ("import sys\nsys.exit(0)", r"cannot be imported \(SystemExit: 0\)"),
        ("while True:\n    pass", r"gave no answer within 2 s \(--timeout\)"),
        ("print('no')\nraise RuntimeError('out of\\norder')", r"cannot be imported \(RuntimeError: out of order\)"),
    ],
)
def test_code_that_does_not_even_open_is_one_line(code: str, words: str, theirs: Path) -> None:
    (theirs / "theirs.py").write_text(code)
    with pytest.raises(ValueError, match=f"^theirs:ask: {words}$"):
        opened("ask", timeout=0.2)


def test_the_rest_is_asked_of_a_process_that_began_anew(theirs: Path) -> None:
    suspect = opened("refuses_one")
    white = np.concatenate([IMAGES[:2], np.full((1, *SHAPE), 255, np.uint8)])
    with pytest.raises(NoAnswerError, match="ended with status 1"):
        suspect(white)
    assert np.array_equal(suspect(white[:2]), BRIGHTEST[:2])


def test_what_a_suspect_prints_is_in_no_document(theirs: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(theirs)
    status, found = ask("--suspect", "theirs:prints", "--trust")
    assert (status, found["suspects"][0]["name"]) == (STATUS[found["decision"]], "theirs:prints")
    assert Path(found["report"]).is_dir()


STATUS = {"proven": 0, "not proven": 3, "inconclusive": 4}


@pytest.mark.parametrize("name", ["exits", "leaves", "moves"])
def test_no_suspect_chooses_the_status(
    name: str, theirs: Path, say: Say, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(theirs)
    said = say("verify", "--key", str(case.key), "--suspect", f"theirs:{name}", "--trust", "--json")
    if name == "moves":
        assert said[0] == STATUS[json.loads(said[1])["decision"]]
        assert Path("results").is_dir(), "it is where we are"
    else:
        one_line(said, f"--suspect: theirs:{name}: ", "0 of 30 answers are kept", "run the same command again")


def test_a_limit_that_is_none(say: Say, case: Any) -> None:
    words = ("verify", "--key", str(case.key), "--suspect", str(case.key), "--memory-limit", "0")
    one_line(say(*words), "--memory-limit: 0 is not allowed: must be above 0")


PARENT = """
import sys
from mwm.verification.suspects import open_suspect
suspect = open_suspect("theirs:starts", shape=(1, 6, 6), classes=4, trust=True)
import numpy
suspect(numpy.zeros((1, 1, 6, 6), numpy.uint8))
print("asked", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_nothing_outlives_the_process_that_asked(theirs: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=theirs, env=environment, **pipes) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"asked\n"
        below = psutil.Process(parent.pid).children(recursive=True)
        assert len(below) == 2
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in below):
        assert time.monotonic() < end, below
        time.sleep(0.05)


def test_the_process_of_an_onnx_file_imports_no_torch() -> None:
    code = "import sys, mwm.verification.suspects.isolated.child as it; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
