"""Functions of the user's own: found from the folder of the command, named by their code, run where trusted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mwm.config.functions import FromFunction, load_function, own_module, require_unchanged, source_digest
from mwm.config.trust import require_trust
from mwm.models.networks import PythonNetwork

MODULE = """
TABLE = 3

def plain(classes, width=2):
    return classes, width

def every(**given):
    return given

def nothing():
    return "nothing"

def broken(classes):
    raise RuntimeError("no such\\nlayer")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module and a package, from which a command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_module.py").write_text(MODULE)
    (tmp_path / "own_package" / "deeper").mkdir(parents=True)
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "deeper" / "__init__.py").write_text("def build():\n    return 7\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_module", "own_package")]:
        del sys.modules[name]


def test_code_that_changes_after_its_import_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "changing_module.py"
    file.write_text("def one():\n    return 1\n")
    began = source_digest("changing_module:one")
    assert load_function("changing_module:one")() == 1
    require_unchanged([("x", "changing_module:one")], {"changing_module:one": began})
    file.write_text("def one():\n    return 2\n")
    with pytest.raises(ValueError, match=r"^changing_module:one: its code has changed since it was imported"):
        load_function("changing_module:one")
    with pytest.raises(ValueError, match=rf"^changing_module:one: its code has the digest \w+, and had {began} when"):
        require_unchanged([("x", "changing_module:one")], {"changing_module:one": began})


@pytest.mark.usefixtures("here")
def test_a_function_gets_what_it_has_parameters_for() -> None:
    offered = {"classes": 10, "shape": (1, 8, 8)}
    assert FromFunction(function="own_module:plain").call(**offered) == (10, 2)
    assert FromFunction(function="own_module:plain", arguments={"width": 5}).call(**offered) == (10, 5)
    assert FromFunction(function="own_module:plain", arguments={"classes": 3}).call(**offered) == (3, 2)
    assert FromFunction(function="own_module:every", arguments={"a": 1}).call(**offered) == {**offered, "a": 1}
    assert FromFunction(function="own_module:nothing").call(**offered) == "nothing"
    assert load_function("own_package.deeper:build")() == 7


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("own_module:missing", "own_module:missing: cannot be imported (AttributeError: "),
        ("no_such_module:f", "no_such_module:f: cannot be imported (ModuleNotFoundError: "),
        ("own_module:TABLE", "own_module:TABLE: is a int, not a function"),
        ("own_module:broken", "own_module:broken: failed (RuntimeError: no such layer)"),
    ],
)
def test_what_fails_is_one_line(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        FromFunction(function=name).call(classes=10)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_code_is_named_by_its_text(here: Path) -> None:
    before = source_digest("own_module:plain"), source_digest("own_package.deeper:build")
    assert source_digest("own_module:every") == before[0]
    (here / "own_module.py").write_text(MODULE + "\nMORE = 1\n")
    (here / "own_package" / "__init__.py").write_text("# a word\n")
    assert source_digest("own_module:plain") != before[0]
    assert source_digest("own_package.deeper:build") != before[1]
    for name, fault in (("no_such_module:f", "there is no module"), ("math:sqrt", "is not written in Python")):
        with pytest.raises(ValueError, match=fault):
            source_digest(name)


def test_own_code_is_told_from_what_is_installed(here: Path) -> None:
    assert own_module("own_module:plain") == here / "own_module.py"
    assert own_module("own_package.deeper:build") == here / "own_package"
    assert own_module("torchvision.models:resnet18") is None
    assert own_module("json:dumps") is None


def test_code_that_nobody_trusts_is_not_run() -> None:
    require_trust("data: a:b", "callable", trust=True)
    with pytest.raises(ValueError, match=r"^data: a:b: a module runs its code when it is imported; .* add --trust"):
        require_trust("data: a:b", "callable", trust=False)


def test_records_of_functions_are_known_again_whatever_their_arguments() -> None:
    one, same = (PythonNetwork(function="a:b", arguments={"widths": [4, 8]}) for _ in range(2))
    assert {one: 1} == {same: 1}
    assert one != PythonNetwork(function="a:b", arguments={"widths": [4, 9]})
