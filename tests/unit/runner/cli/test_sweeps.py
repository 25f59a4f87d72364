"""Which of several mistakes is told, and how `check` counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mwm.models.build import build_model
from mwm.models.networks import Cnn
from mwm.runner.sweeps.sweep import load_sweep
from mwm.runner.sweeps.validation import validate
from mwm.training.recipe import EMBEDDING
from tests.helpers.asking import Say
from tests.helpers.launching import ROOT, command, environment, sweep
from tests.helpers.registered import registered
from tests.helpers.resumed import ran

HERE = "name: 'small' is another sweep in results/small"


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """The file of a sweep of the same name that was run to its end before."""
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    before = load_sweep(sweep(tmp_path))
    ran(folder, before, validate(before)[0])
    return folder / "sweep.json"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("victim.recpie.epochs=3", "victim.recpie: unknown key (did you mean 'recipe'?)"),
        ("victim.recipe.epochs=0", "victim.recipe.epochs: 0 is not allowed"),
        ("attacks.0.lables=soft", "attacks.0.lables: unknown key (did you mean 'labels'?)"),
        ("victim.split.queries=99999", "victim.split: 99999 queries"),
        ("victim.seed=1/0", "victim.seed: '1/0' is not allowed"),
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


@pytest.mark.parametrize(
    ("change", "gone", "differs"),
    [
        ("victim.seed=1", 6, ["- victim.seed: 0", "+ victim.seed: 1"]),
        ("victim.seed={grid: [1, 2]}", 6, ["- victim.seed: 0", "+ victim.seed.grid: [1, 2]"]),
        ("attacks.0.labels=soft", 2, ["- attacks: {'kind': 'extraction', 'labels': 'hard'}"]),
    ],
)
@pytest.mark.parametrize("resumed", [[], ["--resume"]])
def test_another_sweep_is_told_with_a_difference(
    change: str, gone: int, differs: list[str], resumed: list[str], another: Path, tmp_path: Path, say: Say
) -> None:
    words = (str(sweep(tmp_path)), "--set", change)
    checked = say("check", *words)
    status, out, err = say("run", *words, *resumed)
    assert (status, out) == (2, "")
    first, *lines = err.splitlines()
    assert first.startswith(f"{HERE}: {gone} of its 6 finished trials would not be part of it any more, ")
    assert first.endswith("; choose a new one by --name; there (-) and here (+):")
    assert lines == differs
    assert checked[0] == 0
    assert checked[1].endswith(f"warning: run would refuse this: {err}")


def test_check_says_what_is_reused(another: Path, tmp_path: Path, say: Say) -> None:
    assert "the sweep" not in say("check", str(sweep(tmp_path)))[1]
    status, out, _ = say("check", str(sweep(tmp_path)), "--set", "victim.seed={grid: [0, 1]}")
    assert status == 0
    told = "the sweep has changed (victim.seed.grid: [0, 1]): 6 finished trials are reused"
    assert out.splitlines()[-1] == told
    assert another.exists()


def test_a_mistake_is_told_before_what_cannot_be_resumed(tmp_path: Path, say: Say) -> None:
    status, _, err = say("run", str(sweep(tmp_path)), "--resume", "--set", "victim.recpie.epochs=3")
    assert status == 2
    assert err.startswith("victim.recpie: unknown key (did you mean 'recipe'?)")


def test_the_sweep_of_another_release_is_told(another: Path, tmp_path: Path, say: Say) -> None:
    another.write_text('{"name": "small", "victim": {}, "gone": 1}', encoding="utf-8")
    status, _, err = say("run", str(sweep(tmp_path)))
    assert status == 2
    assert err == f"{HERE}: sweep.json is of another release, or damaged; choose a new one by --name\n"


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
        "import sys; from mwm.runner.cli.app import parse; from mwm.runner.cli.sweeps import _sweep; "
        "bound = parse(sys.argv[1:])[1].arguments; "
        "print(ascii(_sweep(bound['config'], bound['asked']).tags))"
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


def network(classes: int) -> nn.Module:
    """One that goes with the victims of `started`."""
    drawn = torch.Generator().manual_seed(1)
    return build_model(Cnn(width=4), shape=(1, 8, 8), classes=classes, mean=[0.3], std=[0.3], generator=drawn)


def started(folder: Path, start: str) -> Path:
    """A sweep whose victim, and the second of its students, start from weights."""

    def change(tree: dict[str, Any]) -> None:
        tree["victim"] |= {"start": start, "scheme": "trigger_set", "split": {"queries": 100}}
        del tree["victim"]["recipe"]
        tree["attacks"] += [{"kind": "extraction", "start": start}]

    return sweep(folder, change)


@pytest.mark.parametrize(
    ("classes", "layers"), [(10, "no layer stays fresh"), (7, "fresh are fc.weight, fc.bias, for other classes")]
)
def test_check_says_what_starts_from_weights_and_how(
    classes: int, layers: str, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(network(classes).state_dict(), tmp_path / "mine.safetensors")
    status, out, err = say("check", str(started(tmp_path, "mine.safetensors")))
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if ".start" in line or (".recipe" in line and "steps" not in line)]
    weak = "a student with fresh weights would train by the victim's short recipe, and be weak; write one"
    assert sorted(lines) == [
        f"attacks.1.start: all weights fit; {layers}",
        f"victim.recipe: that of embedding, the default with victim.start ({EMBEDDING.epochs} epochs, rate "
        f"{EMBEDDING.lr:g}, momentum 0.9)",
        f"victim.start: all weights fit; {layers}",
        f"warning: attacks.0.recipe: {weak}",
    ]


@pytest.mark.slow
def test_check_takes_a_start_from_the_mlflow_that_it_is_given(
    tmp_path: Path, uri: str, say: Say, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    registered(uri, network(10).get_submodule("network").eval())
    capsys.readouterr()
    constants = "victim.model.normalize={mean: [0.3], std: [0.3]}"
    asked = ("check", str(started(tmp_path, "models:/mine/1")), "--trust", "--set", constants)
    status, out, err = say(*asked, "--tracking-uri", uri)
    assert (status, err) == (0, "")
    assert "victim.start: all weights fit; no layer stays fresh" in out.splitlines()
    status, out, err = say(*asked, "--tracking-uri", f"sqlite:///{tmp_path}/empty.db")
    assert (status, out) == (2, "")
    assert err.startswith("victim.start: models:/mine/1")
    assert len(err.splitlines()) == 1


def test_check_is_silent_about_starts_where_there_are_none(tmp_path: Path, say: Say) -> None:
    status, out, err = say("check", str(sweep(tmp_path)))
    assert (status, err) == (0, "")
    assert "start" not in out
