"""The house: imports point down, slow libraries stay in their rooms, files and functions stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    "spec",
    "seeds",
    "rule",
    "config",
    "ascent",
    "verdict",
    "evidence",
    "power",
    "data",
    "augment",
    "models",
    "queries",
    "key",
    "evaluate",
    "recipe",
    "engine",
    "fit",
    "oracle",
    "schemes",
    "attacks",
    "files",
    "lock",
    "journal",
    "storage",
    "store",
    "address",
    "suspects",
    "trial",
    "memory",
    "stage",
    "space",
    "sweep",
    "search",
    "plan",
    "check",
    "progress",
    "shelf",
    "verbs",
    "keys",
    "results",
    "settings",
    "retention",
    "tables",
    "report",
    "outbox",
    "experiment",
    "tracking",
    "provenance",
    "inquiry",
    "null",
    "judge",
    "statement",
    "recorded",
    "case",
    "verify",
    "ledger",
    "staged",
    "sync",
    "cluster",
    "commands",
    "driver",
    "launch",
]
"""Rooms from the bottom up; one may import those before it."""

ONLY_IN = {
    "mlflow": {"experiment", "suspects/foreign"},
    "requests": {"suspects/endpoint"},
    "onnxruntime": {"suspects/graph"},
    "ray": {"cluster", "staged"},
    "yaml": {"config"},
    "optuna": {"search"},
    "matplotlib": {"retention"},
    "pyarrow": {"files"},
    "fsspec": {"files"},
}
WITHOUT_TORCH = {"verdict", "evidence", "power"}
WITHOUT_RAY_AND_MLFLOW = FLOORS[: FLOORS.index("report") + 1]
IN_PLACE = {
    *(("schemes", name) for name in ("objective", "clean_loss")),  # what an Objective takes
    ("attacks", "objective"),
    *(("stage", name) for name in ("run", "__init__", "_measure")),
}
"""Functions that take more than three arguments by their place."""

FILES = [*sorted((ROOT / "mwm").rglob("*.py")), ROOT / "launch.py"]


def room(path: Path) -> str:
    """The room a file belongs to: a package such as `schemes` is one room."""
    return "launch" if path == ROOT / "launch.py" else path.relative_to(ROOT / "mwm").parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every module that a file imports, wherever the import stands, as parts of its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                yield (*node.module.split("."), alias.name)


@pytest.fixture(scope="module", params=FILES, ids=lambda path: str(path.relative_to(ROOT)))
def file(request: pytest.FixtureRequest) -> Path:
    """Each file of the product."""
    path: Path = request.param
    return path


def test_every_room_is_known() -> None:
    assert {room(path) for path in FILES} - {"__init__"} == set(FLOORS)


def test_imports_point_down(file: Path) -> None:
    below = set() if room(file) == "__init__" else set(FLOORS[: FLOORS.index(room(file)) + 1])
    for name in imports(ast.parse(file.read_text())):
        if name[0] == "mwm" and len(name) > 1:
            assert name[1] in below, f"{file.name} imports {'.'.join(name)} from above"
        assert name[0] not in ("launch", "tests"), f"{file.name} imports {name[0]}"


def test_libraries_stay_in_their_rooms(file: Path) -> None:
    for name, *_ in imports(ast.parse(file.read_text())):
        place = file.relative_to(ROOT / "mwm").with_suffix("").as_posix() if file.parent != ROOT else "launch"
        assert {room(file), place} & ONLY_IN.get(name, {place}), f"{file.name} imports {name}"
        assert name != "torch" or room(file) not in WITHOUT_TORCH, f"{room(file)} needs no torch"


def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 300, f"{file.name} has {len(text.splitlines())} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 40, f"{file.name}: {node.name} has {length} lines"


def test_more_than_three_arguments_are_named(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef) and (room(file), node.name) not in IN_PLACE:
            given = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
            assert len(given) <= 3, f"{file.name}: {node.name} takes {', '.join(given)} by their place"


IMPORT_ALL = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "mlflow"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
for room in sys.argv[1:]:
    importlib.import_module(f"mwm.{room}")
import torch
fresh = torch.Generator().manual_seed(torch.default_generator.initial_seed()).get_state()
assert torch.equal(torch.default_generator.get_state(), fresh), "an import has drawn random numbers"
assert not {"torchvision", "optuna", "matplotlib"} & {*sys.modules}, "a slow library was imported"
"""


CHECK = """
import sys, launch
assert launch.main(["check", "tune_configs/quickstart.yaml"]) == 0
slow = {"sklearn", "pandas", "torchvision", "optuna", "matplotlib", "ray", "mlflow", "torch._dynamo"} & {*sys.modules}
assert not slow, f"slow libraries were imported: {slow}"
"""


def test_a_check_imports_nothing_slow_but_pytorch() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_experiments_need_neither_ray_nor_mlflow() -> None:
    command = [sys.executable, "-W", "error", "-c", IMPORT_ALL, *WITHOUT_RAY_AND_MLFLOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
