"""Which of several mistakes is told, and how `check` counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.asking import Say
from tests.helpers.launching import ROOT, command, environment, sweep

HERE = "name: 'small' is another sweep in results/small"


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """The file of a sweep of the same name that was run before."""
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    return sweep(tmp_path).rename(folder / "sweep.json")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("victim.recpie.epochs=3", "victim.recpie: unknown key (did you mean 'recipe'?)"),
        ("victim.recipe.epochs=0", "victim.recipe.epochs: 0 is not allowed"),
        ("attacks.0.lables=soft", "attacks.0.lables: unknown key (did you mean 'labels'?)"),
        ("victim.split.queries=99999", "victim.split: 99999 queries"),
        ("victim.seed=1/0", "victim.seed: '1/0' is not allowed"),
        ("victim.seed=1", f"{HERE} (victim.seed: 1, there 0); choose a new one by --name"),
        ("victim.scheme=none", f"{HERE} (victim.scheme: 'none', there None); choose a new one"),
        ("attacks.0.labels=soft", f"{HERE} (attacks.0.labels: 'soft', there None); choose a new one"),
    ],
)
@pytest.mark.parametrize("resumed", [[], ["--resume"]])
def test_a_mistake_is_told_before_the_name(
    change: str, line: str, resumed: list[str], another: Path, tmp_path: Path, say: Say
) -> None:
    status, out, err = say("run", str(sweep(tmp_path)), "--set", change, *resumed)
    assert (status, out) == (2, "")
    assert err.startswith(line)
    assert len(err.splitlines()) == 1


def test_a_mistake_is_told_before_what_cannot_be_resumed(tmp_path: Path, say: Say) -> None:
    status, _, err = say("run", str(sweep(tmp_path)), "--resume", "--set", "victim.recpie.epochs=3")
    assert status == 2
    assert err.startswith("victim.recpie: unknown key (did you mean 'recipe'?)")


def test_the_sweep_of_another_release_is_told(another: Path, tmp_path: Path, say: Say) -> None:
    another.write_text('{"name": "small", "victim": {}, "gone": 1}', encoding="utf-8")
    status, _, err = say("run", str(sweep(tmp_path)))
    assert status == 2
    assert err == f"{HERE} (sweep.json is of another release, or damaged); choose a new one by --name\n"


def test_check_counts_one_and_none(tmp_path: Path, say: Say) -> None:
    changes = (
        "victim.scheme=margin",
        "resources.victim={cpus: 2, gpus: 0.5}",
        "victim.split.queries=200",
        "attacks=[]",
    )
    words = [word for change in (*changes, "attacks=[]") for word in ("--set", change)]
    status, out, err = say("check", str(sweep(tmp_path)), *words)
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if "victim," in line or "attack" in line]
    assert lines == ["1 victim, on 2 CPUs and 0.5 GPUs", "0 attacks"]


def test_a_file_and_its_overrides_are_utf_8_in_any_locale(tmp_path: Path) -> None:
    path = sweep(tmp_path)
    path.write_text(f"{path.read_text(encoding='utf-8')}tags: {{by: Müller}}\n", encoding="utf-8")
    code = (
        "import sys; from mwm.runner.cli.app import parse; from mwm.runner.cli.sweeps import _asked; "
        "bound = parse(sys.argv[1:])[1].arguments; "
        "print(ascii(_asked(bound['config'], bound['changes'], name=None, tags=bound['tags']).tags))"
    )
    words = ["check", str(path), "--set", "tags.place=Köln", "--tag", "note=日本"]
    settings = environment() | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    asked = [sys.executable, "-c", code, *words]
    done = subprocess.run(asked, env=settings, capture_output=True, check=True)
    assert done.stdout.decode().strip() == ascii({"by": "Müller", "place": "Köln", "note": "日本"})


def test_a_file_is_found_by_its_name_in_any_locale(tmp_path: Path) -> None:
    folder = tmp_path / "Müller"
    folder.mkdir()
    secret = folder / "geheim.txt"
    secret.write_text("not hexadecimal", encoding="utf-8")
    settings = environment() | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    asked = command("check", sweep(folder), "--set", f"victim.secret={secret}")
    done = subprocess.run(asked, cwd=folder, env=settings, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"victim.secret: ")
    assert b"64 hexadecimal digits" in done.stderr
    assert b"codec" not in done.stderr
