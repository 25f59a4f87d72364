"""The command line as a whole: help, version, mistakes, exit statuses, completion, and what it imports."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mwm
from mwm.runner.cli import workspace
from mwm.runner.cli.app import COMMANDS, make_app, parse
from mwm.runner.cli.options import as_option
from tests.helpers.asking import Say, heard, one_line
from tests.helpers.launching import ROOT

SLOW = {"torch", "ray", "mlflow", "optuna", "numpy", "scipy", "pyarrow", "matplotlib"}
QUICK = [
    ["--version"],
    ["--help"],
    [],
    ["verify", "--help"],
    ["clean", "--help"],
    ["lst"],
]


def function(name: str) -> Any:
    module, _, attribute = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"mwm.runner.cli.{module}"), attribute)


def test_without_a_command_all_are_listed(say: Say) -> None:
    out = heard(say)
    assert out == heard(say, "--help") == heard(say, "-h")
    places = [out.index(f"│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_the_version_is_told(say: Say) -> None:
    assert heard(say, "--version") == f"mwm {mwm.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_its_docstring(name: str, say: Say) -> None:
    first, *_ = (function(name).__doc__ or "").splitlines()
    assert COMMANDS[name][1] == first
    out = heard(say, name, "--help")
    assert out.startswith(f"Usage: launch.py {name}")
    assert first.split()[0] in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "lst: unknown command (did you mean list?); allowed: run, check, status, list"),
        (["--fast"], 'Unknown command "--fast"'),
        (["status"], "NAME requires an argument"),
        (["status", "a", "b"], "b: is not allowed here: write a value that holds spaces in quotes"),
        (["list", "--storag", "x"], "Unknown option: --storag. Did you mean --storage?"),
        (["list", "--no-json"], "Unknown option: --no-json"),
        (["run", "--set"], "--set requires an argument"),
        (["power"], "--classes requires an argument"),
        (["power", "--classes", "ten"], 'Invalid value for --classes: unable to convert "ten" into int'),
        (["verify", "--key", "k"], "--suspect requires an argument"),
        (["verify", "--suspect", "s"], "--key requires an argument"),
        (
            ["verify", "--key", "k", "--suspect", "s", "--order-seed", "-1"],
            "--order-seed: -1 is not allowed: must be 0",
        ),
        (["clean", "--older-than", "soon"], 'Invalid value for --older-than: unable to convert "soon" into float'),
    ],
)
def test_a_mistake_is_one_line(words: list[str], said: str, say: Say) -> None:
    one_line(say(*words), said)


def test_options_repeat_take_several_values_and_the_last_one_counts() -> None:
    _, run = parse(["run", "x.yaml", "--set", "a=b", "--tag", "k=v", "--set", "c={d: e}", "--name", "x", "--name", "y"])
    assert run.arguments["config"] == Path("x.yaml")
    asked = run.arguments["asked"]
    assert (asked.changes, asked.tags, asked.name) == (["a=b", "c={d: e}"], ["k=v"], "y")
    _, power = parse(["power", "--level", "1e-3", "1e-6", "1e-9", "--classes", "10", "--queries", "5"])
    assert (power.arguments["level"], power.arguments["queries"]) == ([1e-3, 1e-6, 1e-9], [5])
    _, verify = parse(["verify", "--key", "k", "--suspect", "a", "--suspect=b", "--rate", "2", "--sequential"])
    assert verify.arguments["suspects"] == ["a", "b"]
    assert (verify.arguments["options"].rate, verify.arguments["options"].sequential) == (2.0, True)


def test_an_interrupt_is_status_130(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workspace, "list_sweeps", interrupted)
    assert say("list") == (130, "", "")


def test_a_field_is_told_as_its_option() -> None:
    assert as_option("order_seed: -1 is not allowed") == "--order-seed: -1 is not allowed"
    assert as_option("mine/key.json: cannot be read") == "mine/key.json: cannot be read"
    assert as_option("level: no", {"rate"}) == "level: no"


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_what_needs_no_slow_library_imports_none(words: list[str]) -> None:
    told = f"import sys, launch; launch.main({words!r}); print(*({SLOW!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1:] in ([""], []), done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed(shell: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZSH", "ZSH_CUSTOM"):
        monkeypatch.delenv(name, raising=False)
    heard(say, "--install-completion", "--shell", shell)
    scripts = [path for path in tmp_path.rglob("*") if path.is_file() and "launch.py" in path.name]
    assert len(scripts) == 1
    text = scripts[0].read_text()
    assert all(word in text for word in ("launch.py", *COMMANDS, "null-models", "older-than"))
    if shell == "bash":
        typed = "COMP_WORDS=(launch.py verify --null); COMP_CWORD=2; _launch_py; echo ${COMPREPLY[@]}"
        done = subprocess.run(
            ["bash", "-c", f"source {scripts[0]}; {typed}"], capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == ["--null-models"], done.stderr


def test_no_option_is_spelt_with_an_underscore() -> None:
    for name in COMMANDS:
        for argument in make_app()[name].assemble_argument_collection():
            assert all("_" not in spelt for spelt in argument.names), argument.names
