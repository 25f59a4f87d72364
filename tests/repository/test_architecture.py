"""The architecture: which package may import which, where slow libraries stay, how long files and functions are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LIBRARY: dict[str, set[str]] = {
    "config": set(),
    "stats": set(),
    "storage": {"config"},
    "data": {"config", "storage"},
    "models": {"config", "storage"},
    "training": {"config", "data"},
    "watermarks": {"config", "stats", "storage", "data", "training"},
    "oracle": {"config", "data", "models", "training"},
    "attacks": {"config", "data", "models", "training", "watermarks", "oracle"},
    "verification": {"config", "stats", "storage", "data", "models", "watermarks"},
}
LIBRARY["trials"] = {*LIBRARY} - {"verification"}
RUNNER: dict[str, set[str]] = {
    name: {*LIBRARY} for name in ("runner.sweeps", "runner.workspace", "runner.tracking", "runner.reporting")
}
RUNNER["runner.execution"] = {*LIBRARY, *RUNNER}
RUNNER["runner.cli"] = {*LIBRARY, *RUNNER}
ALLOWED = {
    **LIBRARY,
    **RUNNER,
    "": {*LIBRARY, "runner.sweeps", "runner.reporting", "runner.execution"},
    "launch": {"runner.cli"},
}
"""Which packages each package may import, beside itself; `mwm/__init__` is the package without a name."""

ONLY_IN = {
    "pydantic": {"config"},
    "yaml": {"config"},
    "scipy": {"stats"},
    "pyarrow": {"storage"},
    "fsspec": {"storage"},
    "sqlalchemy": {"storage"},
    "fcntl": {"storage"},
    "PIL": {"data", "models.inputs", "runner.reporting", "verification.report.exhibit"},
    "torchvision": {"data", "models"},
    "requests": {"verification"},
    "onnxruntime": {"verification"},
    "mlflow": {"runner.tracking", "storage.mlflow_models"},
    "optuna": {"runner.sweeps"},
    "matplotlib": {"runner.reporting"},
    "jinja2": {"verification.report.html"},
    "markupsafe": {"verification.report.html"},
    "ray": {"runner.execution"},
    "rich": {*RUNNER},
    "cyclopts": {"runner.cli"},
}
"""The packages (or modules) in which alone a library may be imported."""

WITHOUT_TORCH = (
    "stats",
    "config.spec",
    "config.errors",
    "config.loader",
    "config.randomness",
    "storage.redaction",
    "storage.tracking_uri",
    "storage.sealed",
    "trials.outcome",
    "runner.workspace",
)
"""Packages and modules that are imported without PyTorch, so that a look at a sweep is quick."""

FAMILIES = {f"attacks/{family}" for family in ("extraction", "removal", "evasion")}
CATALOGUES = {"watermarks/schemes", *FAMILIES}
"""Folders of one file per kind, which may grow."""
NOT_EMPTY = {"", "watermarks/schemes", "attacks", *FAMILIES, "verification/suspects"}
"""Packages whose `__init__` says something: the public names, the unions, and `open_suspect`."""
IN_PLACE = {"objective", "clean_loss", "run", "__init__", "_measure", "__torch_function__"}
"""Functions that may take more than three arguments by their place: what an Objective takes, and trials."""

FILES = [*sorted((ROOT / "mwm").rglob("*.py")), ROOT / "launch.py"]


def module(path: Path) -> str:
    """The dotted name of a file below `mwm`, without it."""
    if path == ROOT / "launch.py":
        return "launch"
    parts = path.relative_to(ROOT / "mwm").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package(name: str) -> str:
    """The package of a module: the first part of its name, or two in `runner`."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "runner" else parts[0]


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


MODULES = {module(path): path for path in FILES}
USES = {
    name: {
        target
        for parts in imports(ast.parse(path.read_text()))
        if parts[0] == "mwm"
        for target in (".".join(parts[1:]), ".".join(parts[1:-1]))
        if target in MODULES and target != name
    }
    for name, path in MODULES.items()
}
"""The modules that each module imports."""


def floors(uses: dict[str, set[str]]) -> dict[str, int]:
    """The length of the longest way down from each name; an import in a circle fails."""
    found: dict[str, int] = {}

    def floor(name: str, above: tuple[str, ...]) -> int:
        assert name not in above, f"a circle: {' -> '.join((*above, name))}"
        if name not in found:
            found[name] = 1 + max((floor(below, (*above, name)) for below in sorted(uses[name])), default=0)
        return found[name]

    for name in uses:
        floor(name, ())
    return found


@pytest.fixture(scope="module", params=FILES, ids=lambda path: str(path.relative_to(ROOT)))
def file(request: pytest.FixtureRequest) -> Path:
    """Each file of the product."""
    path: Path = request.param
    return path


def test_every_package_is_known() -> None:
    assert {package(name) for name in MODULES} - {"runner"} == set(ALLOWED)


def test_imports_are_those_that_the_table_allows(file: Path) -> None:
    own = package(module(file))
    for name in USES[module(file)] - {""}:
        if package(name) not in (own, "runner"):
            assert package(name) in ALLOWED[own], f"{module(file)} imports {name}"
    for parts in imports(ast.parse(file.read_text())):
        assert parts[0] not in ("launch", "tests"), f"{file.name} imports {parts[0]}"


def test_packages_have_eight_floors_at_most() -> None:
    uses: dict[str, set[str]] = {name.split(".")[0]: set() for name in MODULES if name}
    for name, below in USES.items():
        if name:
            own = name.split(".")[0]
            uses[own] |= {one.split(".")[0] for one in below - {""}} - {own}
    heights = floors(uses)
    print("\n".join(f"floor {height}: {name}" for name, height in sorted(heights.items(), key=lambda one: one[1])))
    assert len(heights) + 1 <= 14, "what a stranger sees first: the packages, and the public names"
    assert max(heights.values()) <= 8, heights


def test_the_packages_of_the_runner_have_three_floors() -> None:
    uses: dict[str, set[str]] = {name: set() for name in RUNNER}
    for name, below in USES.items():
        if package(name) in RUNNER:
            uses[package(name)] |= {package(one) for one in below} & {*RUNNER} - {package(name)}
    heights = floors(uses)
    assert max(heights.values()) <= 3, heights


def child(folder: str, name: str) -> str | None:
    """The entry of a folder, a file or a folder in turn, in which a module lies; None outside of it."""
    inside = name.removeprefix(f"{folder}.")
    return inside.split(".")[0] if inside != name or not folder else None


def test_no_module_imports_itself_round_a_corner() -> None:
    floors(USES)


@pytest.mark.parametrize("folder", sorted({*ALLOWED} - {"", "launch"} | {"verification.suspects"}))
def test_entries_of_a_folder_have_five_floors_at_most(folder: str) -> None:
    uses: dict[str, set[str]] = {}
    for name, below in USES.items():
        if own := child(folder, name):
            uses.setdefault(own, set()).update({entry for one in below if (entry := child(folder, one))} - {own})
    heights = floors(uses)
    assert max(heights.values()) <= 5, heights


def test_folders_have_thirteen_entries_at_most() -> None:
    for folder in {path.parent for path in FILES} - {ROOT}:
        name = folder.relative_to(ROOT / "mwm").as_posix().removeprefix(".")
        entries = {path.name for path in folder.iterdir()} - {"__pycache__", "__init__.py"}
        assert name in CATALOGUES or len(entries) <= 13, f"{folder} has {len(entries)} entries"


def test_git_keeps_every_file_of_the_product() -> None:
    paths = [str(path) for path in FILES]
    ignored = subprocess.run(["git", "check-ignore", "--no-index", *paths], cwd=ROOT, capture_output=True, check=False)
    assert ignored.stdout == b"", "a pattern of .gitignore hits the product"


def test_packages_say_nothing_of_their_own(file: Path) -> None:
    if file.name == "__init__.py" and module(file).replace(".", "/") not in NOT_EMPTY:
        assert not [node for node in ast.parse(file.read_text()).body if not isinstance(node, ast.Expr)]


def test_libraries_stay_where_they_belong(file: Path) -> None:
    for name, *_ in imports(ast.parse(file.read_text())):
        allowed = ONLY_IN.get(name, {module(file)})
        assert {module(file), package(module(file))} & allowed, f"{file.name} imports {name}"


def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 300, f"{file.name} has {len(text.splitlines())} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 40, f"{file.name}: {node.name} has {length} lines"


def test_more_than_three_arguments_are_named(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name not in IN_PLACE:
            given = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
            assert len(given) <= 3, f"{file.name}: {node.name} takes {', '.join(given)} by their place"


IMPORT_ALL = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "mlflow"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    importlib.import_module(f"mwm.{name}")
import torch
fresh = torch.Generator().manual_seed(torch.default_generator.initial_seed()).get_state()
assert torch.equal(torch.default_generator.get_state(), fresh), "an import has drawn random numbers"
assert not {"torchvision", "optuna", "matplotlib"} & {*sys.modules}, "a slow library was imported"
"""

WITHOUT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"mwm.{name}")
assert "torch" not in sys.modules, "PyTorch was imported"
"""

CHECK = """
import sys, launch
assert launch.main(["check", "tune_configs/quickstart.yaml"]) == 0
slow = {"sklearn", "pandas", "torchvision", "optuna", "matplotlib", "ray", "mlflow", "torch._dynamo"} & {*sys.modules}
assert not slow, f"slow libraries were imported: {slow}"
"""


def run(code: str, *words: str) -> None:
    """Run a piece of Python in a process of its own; it must end well and warn of nothing."""
    command = [sys.executable, "-W", "error", "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_check_imports_nothing_slow_but_pytorch() -> None:
    run(CHECK)


def test_the_library_and_the_reports_need_neither_ray_nor_mlflow() -> None:
    wanted = {*LIBRARY, "runner.sweeps", "runner.workspace", "runner.reporting"}
    run(IMPORT_ALL, *(name for name in MODULES if package(name) in wanted))


def test_a_look_at_a_sweep_needs_no_pytorch() -> None:
    run(WITHOUT, *(name for name in MODULES if name.startswith(WITHOUT_TORCH)))
