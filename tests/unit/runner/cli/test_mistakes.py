"""Bad input: each mistake is one clear line and exit status 2, before any trial starts."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import launch
from mwm.runner.sweeps.sweep import load_sweep
from mwm.runner.sweeps.validation import validate
from tests.helpers.launching import launched, sweep
from tests.helpers.resumed import ran


def _npz(path: Path, **changes: Any) -> Path:
    """An archive of 300 training and 60 test images, changed at will; None leaves an array out."""
    chance = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 300), ("test", 60)):
        arrays[f"x_{part}"] = chance.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


MISTAKES: dict[str, tuple[Any, ...]] = {
    "unknown key": (["--set", "victim.scheme.grid.1.stepsize=2"], "victim.scheme.stepsize: unknown key", "step_size"),
    "wrong type": (["--set", "victim.seed=first"], "victim.seed: 'first'", "whole number"),
    "flag for a number": (["--set", "victim.recipe.epochs=true"], "victim.recipe.epochs: True", "whole number"),
    "out of range": (["--set", "victim.recipe.epochs=0"], "victim.recipe.epochs: 0", "greater than or equal to 1"),
    "step size 0": (["--set", "victim.scheme.grid.1.step_size=0"], "victim.scheme.step_size: 0", "greater than 0"),
    "too many queries": (
        ["--set", "victim.split.queries=9"],
        "victim.scheme.num_queries: 10",
        "split.queries, 9",
    ),
    "key beside a grid": (
        ["--set", "victim.scheme.num_queries=10"],
        "victim.scheme: is {grid: [...]}",
        "victim.scheme.grid.0.num_queries",
        "replace victim.scheme",
    ),
    "empty grid": (["--set", "victim.seed={grid: []}"], "victim.seed.grid: []", "one value or more"),
    "grid inside Optuna": (["--set", "search={kind: optuna, num_samples: 2}"], "victim.scheme.grid", "choice"),
    "missing archive": (
        ["--set", "victim.data={kind: npz, path: nowhere.npz}"],
        "victim.data: nowhere.npz",
        "No such file",
    ),
    "unknown kind": (["--set", "victim.model=resnet19"], "victim.model: kind 'resnet19'", "resnet18"),
    "no disjoint part": (["--set", "attacks.0.source=disjoint"], "attacks.0.source", "victim.split.disjoint"),
    "graph without GPU": (
        ["--set", "victim.recipe.cuda_graph=true"],
        "victim.recipe.cuda_graph: true is not allowed",
        "resources.victim.gpus is 0",
    ),
    "graph of a thief without GPU": (
        ["--set", "attacks.0.recipe={cuda_graph: true}"],
        "attacks.0.recipe.cuda_graph: true is not allowed",
        "resources.attack.gpus is 0",
    ),
    "saved augmented views": (
        ["--set", "attacks.0.cache_answers=true"],
        "attacks.0.cache_answers: true is not allowed",
        "false, or victim.data.flip false and victim.data.pad 0",
    ),
    "saved within a budget": (
        ["--set", "attacks.0.cache_answers=true", "--set", "attacks.0.query_budget=200"],
        "attacks.0.cache_answers: true is not allowed",
        "must be false",
    ),
    "no GPU": (["--set", "resources.victim.gpus=64"], "resources.victim.gpus: 64", "largest node has 0"),
    "too many CPUs": (["--set", "resources.attack.cpus=1000"], "resources.attack.cpus: 1000", "largest node has"),
    "unreachable MLflow": (["--tracking-uri", "http://127.0.0.1:9"], "--tracking-uri: http://127.0.0.1:9", "reached"),
    "unreachable Ray": (["--address", "127.0.0.1:9"], "--address: 127.0.0.1:9", "cannot be joined"),
    "Ray Client": (["--address", "ray://127.0.0.1:10001"], "--address: ray://127.0.0.1:10001", "HOST:6379"),
    "too large a grid": (
        [
            "--set",
            f"victim.seed={{grid: {list(range(400))}}}",
            "--set",
            f"victim.split.seed={{grid: {list(range(400))}}}",
        ],
        "victim: 320,000 combinations are not allowed: must be at most 100,000",
    ),
    "words in place of one": (["--set", "victim.seed=", "[0,1]}"], "[0,1]}: is not allowed here", "in quotes"),
    "nothing to resume": (["--resume"], "--resume: there is no sweep 'small'", "results"),
    "wrong override": (["--set", "victim"], "--set victim", "dotted.path=value"),
    "wrong tag": (["--tag", "message"], "--tag message", "key=value"),
    "wrong name": (["--name", "a/b"], "name: 'a/b'", "pattern"),
}

SLOW_MISTAKES = ("no GPU", "too many CPUs", "unreachable MLflow", "unreachable Ray")


def _refused(
    done: subprocess.CompletedProcess[str], folder: Path, *words: str, kept: Collection[str] = frozenset()
) -> None:
    assert done.returncode == 2, done.stderr + done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert left <= {"sweep.yaml", "data.npz", *kept}, "a command that was refused leaves something behind"


@pytest.fixture
def tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in this process, which spares the seconds of starting another."""

    def run(verb: str, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
        for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        status = launch.main([verb, str(path), *more])
        said = capsys.readouterr()
        return subprocess.CompletedProcess([], status, said.out, said.err)

    return run


Tell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("mistake", sorted(MISTAKES.keys() - SLOW_MISTAKES))
def test_mistake_is_one_clear_line(mistake: str, tmp_path: Path, tell: Tell) -> None:
    arguments, *words = MISTAKES[mistake]
    _refused(tell("run", sweep(tmp_path), *arguments), tmp_path, *words)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", SLOW_MISTAKES)
def test_mistake_that_a_service_shows_is_one_clear_line(mistake: str, tmp_path: Path) -> None:
    arguments, *words = MISTAKES[mistake]
    _refused(launched(tmp_path, "run", sweep(tmp_path), *arguments), tmp_path, *words)


def test_compiling_without_a_compiler_is_one_clear_line(
    tmp_path: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = tell("run", sweep(tmp_path), "--set", "victim.recipe.compile=true")
    _refused(done, tmp_path, "victim.recipe.compile: true is not allowed", "'no-such-compiler'")


@pytest.mark.slow
def test_a_compiler_is_not_asked_for_where_trials_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled = ("--set", "victim.recipe.compile=true", "--address", "127.0.0.1:9")
    _refused(launched(tmp_path, "run", sweep(tmp_path), *compiled), tmp_path, "--address: 127.0.0.1:9")


BROKEN = {
    "unreadable": (None, "no readable x_train"),
    "wrong shape": ({"x_train": np.zeros((300, 16, 16), np.uint8)}, "shape"),
    "wrong dtype": ({"x_train": np.zeros((300, 16, 16, 3), np.float32)}, "float32"),
    "label out of range": ({"y_test": np.full(60, 11)}, "11"),
    "one class": ({"y_train": np.zeros(300, np.int64), "y_test": np.zeros(60, np.int64)}, "class"),
    "key missing": ({"y_test": None}, "y_test"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_archive_is_one_clear_line(fault: str, tmp_path: Path, tell: Tell) -> None:
    changes, word = BROKEN[fault]
    path = tmp_path / "data.npz"
    if changes is None:
        path.write_bytes(b"this is no archive")
    else:
        _npz(path, **changes)
    done = tell("check", sweep(tmp_path), "--set", f"victim.data={{kind: npz, path: {path}}}")
    _refused(done, tmp_path, f"victim.data: {path}", word)


def test_missing_file_is_one_clear_line(tmp_path: Path, tell: Tell) -> None:
    _refused(tell("run", tmp_path / "nowhere.yaml"), tmp_path, "nowhere.yaml: cannot be read")


def test_another_sweep_of_the_same_name_is_refused(tmp_path: Path, tell: Tell) -> None:
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    other = load_sweep(sweep(tmp_path, lambda tree: tree["victim"].update(seed=7)))
    ran(folder, other, validate(other)[0])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = tell("run", sweep(tmp_path))
    assert done.returncode == 2
    first, *differs = done.stderr.splitlines()
    assert first.startswith("name: 'small' is another sweep in results/small: 6 of its 6 finished trials would not ")
    assert differs == ["- victim.seed: 7", "+ victim.seed: 0"]
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in folder.iterdir()} - {path.name for path in before} == {".lock"}


def test_a_sweep_that_is_being_run_is_refused(tmp_path: Path, tell: Tell) -> None:
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = "name: 'small' is being run by another process"
        kept = {"results", "results/.lock", "results/small", "results/small/.lock"}
        _refused(tell("run", sweep(tmp_path)), tmp_path, said, kept=kept)
        assert (folder / ".lock").samefile(lock.name), "the lock of the other process is its own"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody may write")
def test_unwritable_storage_is_refused(tmp_path: Path, tell: Tell) -> None:
    done = tell("run", sweep(tmp_path), "--storage", "/proc/self")
    _refused(done, tmp_path, "--storage: /proc/self", "cannot be written")


def test_check_counts_and_starts_nothing(tmp_path: Path, tell: Tell) -> None:
    done = tell("check", sweep(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "2 victims, each on 1 CPU and 0 GPUs" in done.stdout
    assert "4 attacks, each on 1 CPU and 0 GPUs" in done.stdout
    least = "a key of 10 cells, 10 classes: 4 secret labels and no other wrong answer prove a copy at p ≤ .001"
    assert least in done.stdout.splitlines()
    assert "victim.recipe: 10 steps an epoch, of 128 (default) images each; 20 steps in 2 epochs" in done.stdout
    (doubt,) = (line for line in done.stdout.splitlines() if line.startswith("warning"))
    assert doubt.startswith(
        "warning: victim.recipe: 20 steps in all hardly embed a watermark: it took 40 to 160 on digits, and"
    )
    assert doubt.endswith(" (margin n=10 0.01 4 per step steps=2)")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.yaml"]


def test_check_warns_of_too_few_queries(tmp_path: Path, tell: Tell) -> None:
    done = tell("check", sweep(tmp_path), "--set", "victim.scheme.grid.1.num_queries=2")
    assert done.returncode == 0, done.stderr
    few = "warning: victim.scheme.num_queries: 2 can prove no copy at p ≤ .001"
    best = "if all of its 2 secret labels rank first, p is 0.025"
    assert f"{few}: {best}; with 10 classes it takes 4 or more" in done.stdout.splitlines()
    assert done.stdout.count("warning") == 2, "the other is of too few steps"


def test_check_doubts_nothing_that_suffices(tmp_path: Path, tell: Tell) -> None:
    done = tell("check", sweep(tmp_path), "--set", "victim.recipe.epochs=200")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout


def test_sizes_that_follow_from_small_data_are_told_where_they_do_not_suffice(tmp_path: Path, tell: Tell) -> None:
    data = f"victim.data={{kind: npz, path: {_npz(tmp_path / 'data.npz')}}}"
    usual = ["--set", data, "--set", "victim.split={seed: 0}", "--set", "victim.scheme={kind: margin, num_queries: 31}"]
    said = "victim.scheme.num_queries: 31 is not allowed: must be at most split.queries, by default 30, a tenth of 300"
    _refused(tell("run", sweep(tmp_path), *usual), tmp_path, said, "; or write split.queries: 31")
    done = tell("check", sweep(tmp_path), *usual[:-1], "victim.scheme={kind: margin, num_queries: 30}")
    assert done.returncode == 0, done.stderr
    assert "  queries: 30, by default a tenth and 500 at most; by class " in done.stdout
    many = "victim.scheme={kind: confusion, cells_per_class: 9}"
    said = "victim.split.queries: 30 (a tenth of the training images) is not allowed: class "
    _refused(tell("run", sweep(tmp_path), *usual[:-1], many), tmp_path, said)


def test_check_tells_of_keys_of_classes(tmp_path: Path, tell: Tell) -> None:
    confused = "victim.scheme.grid.1={kind: confusion, cells_per_class: {grid: [1, 2]}}"
    done = tell("check", sweep(tmp_path), "--set", confused, "--set", "victim.split.queries=200")
    assert done.returncode == 0, done.stderr
    for cells in (10, 20):
        assert f"a key of {cells} cells, 10 classes: 4 secret labels" in done.stdout
    _npz(tmp_path / "own.npz", y_train=np.arange(300) % 3, y_test=np.arange(60) % 3)
    data = f"victim.data={{kind: npz, path: {tmp_path / 'own.npz'}}}"
    done = tell("check", sweep(tmp_path), "--set", data, "--set", "victim.scheme.grid.1={kind: confusion}")
    assert done.returncode == 0, done.stderr
    few = "warning: victim.scheme.cells_per_class: 1 can prove no copy at p ≤ .001"
    best = "if all of its 3 secret labels rank first, p is 0.25"
    assert f"{few}: {best}; with 3 classes it takes 11 or more" in done.stdout.splitlines()
