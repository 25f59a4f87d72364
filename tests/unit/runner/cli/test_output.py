"""Where a command writes: what becomes of the output changes no status, and every encoding shows something."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import ROOT, command, environment
from tests.helpers.verifying import VerificationCase

ASCII = {"PYTHONIOENCODING": "ascii"}
SWEEP = str(ROOT / "tune_configs" / "quickstart.yaml")
FULL, CLOSED = "cannot be written (No space left on device)", "cannot be written (it is closed)"


def said(folder: Path, end: str, *words: str, **variables: str) -> tuple[int, str, str]:
    """A command in a shell, with what stands behind it there: its own status, stdout and stderr."""
    line = f"{shlex.join(command(*words))} {end}; exit ${{PIPESTATUS[0]}}"
    how = {"cwd": folder, "env": environment() | variables, "timeout": 120}
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, **how)  # type: ignore[call-overload]
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def lines(err: str) -> list[str]:
    return [one.removesuffix("; nothing more is shown") for one in err.splitlines()]


@pytest.mark.parametrize("words", [["list"], ["power", "--classes", "10"], ["schema"], ["--help"]], ids=" ".join)
def test_what_a_command_is_there_to_show(words: list[str], tmp_path: Path) -> None:
    assert said(tmp_path, "| true", *words)[::2] == (0, "")
    status, _, err = said(tmp_path, "> /dev/full", *words)
    assert (status, lines(err)) == (2, [f"stdout: {FULL}"])


@pytest.mark.parametrize(
    ("end", "status", "err"),
    [
        (">&-", 2, [f"stdout: {CLOSED}"]),
        ("2>&-", 0, []),
        (">&- 2>&-", 2, []),
        ("<&- >&- 2>&-", 2, []),
        ("> /dev/full 2> /dev/full", 2, []),
        ("| head -c 1", 0, []),
    ],
)
def test_a_stream_that_is_closed(end: str, status: int, err: list[str], tmp_path: Path) -> None:
    found, _, told = said(tmp_path, end, "list")
    assert (found, lines(told)) == (status, err)


def test_a_mistake_without_a_stderr(tmp_path: Path) -> None:
    assert said(tmp_path, "2>&-", "status", "none") == (2, "", "")
    assert said(tmp_path, "2>/dev/full", "lst") == (2, "", "")


def test_a_check_says_whether_the_file_is_right(tmp_path: Path) -> None:
    status, _, err = said(tmp_path, "> /dev/full", "check", SWEEP)
    assert (status, lines(err)) == (0, [f"stdout: {FULL}"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "proven", "err"),
    [("| true", False, []), ("> /dev/full", True, [f"stdout: {FULL}"]), (">&- 2>&-", False, [])],
)
def test_the_status_of_a_verdict_is_the_verdict(
    end: str, proven: bool, err: list[str], case: VerificationCase, tmp_path: Path
) -> None:
    suspect = case.key if proven else case.independent
    words = ["verify", "--key", str(case.key), "--suspect", str(suspect), "--output", "mine"]
    status, _, told = said(tmp_path, end, *words)
    assert (status, lines(told)) == (0 if proven else 3, err)
    assert (tmp_path / "mine" / "verdict.json").exists()


@pytest.mark.slow
def test_whether_a_key_opens_is_a_status_of_its_own(case: VerificationCase, tmp_path: Path) -> None:
    words = ["open", str(case.key), "--commitment", "0" * 64]
    assert said(tmp_path, "| true", *words)[::2] == (3, "")


WATCHED = """
import sys
from rich.console import Console
from rich.live import Live
from mwm.runner.cli.output import protect_output
output = protect_output()
output.tell_gone = True
with Live("drawn", console=Console(), auto_refresh=False):
    print("begun", flush=True)
    sys.stdin.read()
    print("into the void", flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize("both", [True, False], ids=["stderr too", "stdout alone"])
def test_a_terminal_that_goes_under_a_live_display_ends_nothing(both: bool) -> None:
    ours, theirs = pty.openpty()
    ends: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": theirs, "stderr": theirs if both else subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WATCHED], cwd=ROOT, env=environment(), **ends) as process:
        os.close(theirs)
        while b"begun" not in os.read(ours, 4096):
            pass
        os.close(ours)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert err == (None if both else b"stdout: nobody reads it any more; nothing more is shown\n")


PLAIN = [
    ASCII,
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "ascii:strict"},
]


@pytest.mark.parametrize("variables", PLAIN, ids=str)
def test_signs_that_an_encoding_has_not_are_plain(variables: dict[str, str], tmp_path: Path) -> None:
    status, out, err = said(tmp_path, "", "power", "--classes", "10", **variables)
    assert (status, err) == (0, "")
    assert out.isascii()
    assert "| p <= 0.001 |" in out


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "cp437", "shift_jis"])
def test_signs_that_an_encoding_has_are_shown(encoding: str, tmp_path: Path) -> None:
    code = (
        "from mwm.runner.cli.output import protect_output; protect_output(); print('Müller 東 ≤ 3×3 − ½ log₁₀ \\udcff')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    shown = done.stdout.decode(encoding)
    assert "ller" in shown
    assert shown.split()[-1] == "?", "no letter stands for this byte of a file's name"
    if encoding == "latin-1":
        assert shown == "Müller ? <= 3×3 - ½ log10 ?\n"
    if encoding == "utf-8":
        assert shown == "Müller 東 ≤ 3×3 − ½ log₁₀ ?\n"


def test_a_schema_is_the_same_in_every_encoding(tmp_path: Path) -> None:
    _, out, _ = said(tmp_path, "", "schema", PYTHONIOENCODING="latin-1")
    assert out.isascii()
    assert json.loads(out) == json.loads((ROOT / "tune_configs" / "schema.json").read_text())


@pytest.mark.parametrize("name", ["Müller", "東京"])
def test_names_that_cannot_be_shown_are_replaced(name: str, tmp_path: Path) -> None:
    status, out, err = said(tmp_path, "", "status", name, **ASCII)
    assert (status, out) == (2, "")
    assert err.startswith("NAME: there is no sweep '")
    assert err.isascii()


def test_a_python_without_what_is_needed_is_no_verdict(tmp_path: Path) -> None:
    words = [sys.executable, "-S", str(ROOT / "launch.py"), "verify"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot run mwm (No module named 'cyclopts'); use .venv/bin/python" in done.stderr
    assert len(done.stderr.splitlines()) == 1
