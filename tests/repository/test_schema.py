"""tune_configs/schema.json: current, and true of what the program takes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.config.written import plain
from mwm.runner.sweeps.schema import schema_text, sweep_schema
from mwm.runner.sweeps.sweep import Sweep
from tests.helpers.asking import Say, heard
from tests.helpers.launching import ROOT, SWEEP
from tests.repository.tune_configs import SHIPPED

KEPT = ROOT / "tune_configs" / "schema.json"
VALIDATOR = jsonschema.Draft7Validator(sweep_schema())

ALLOWED: dict[str, tuple[str, Any]] = {
    "a fraction": ("victim.scheme", {"kind": "margin", "step_size": "3/255"}),
    "a grid of fractions": ("victim.scheme", {"kind": "margin", "step_size": {"grid": ["3/255", 0.1]}}),
    "a range": ("victim.scheme", {"kind": "margin", "weight": {"loguniform": [0.1, 1]}}),
    "a range of whole numbers": ("victim.seed", {"integers": [0, 9]}),
    "a choice": ("victim.recipe", {"nesterov": {"choice": [True, False]}, "momentum": 0.5}),
    "a kind in a word": ("victim.model", "cnn"),
    "a kind among many": ("victim.scheme", {"kind": {"grid": ["trigger_set", "margin"]}, "num_queries": 9}),
    "a grid of records": ("victim.model", {"grid": ["resnet18", {"kind": "cnn", "width": {"grid": [4, 8]}}]}),
    "a grid in a grid": ("victim.seed", {"grid": [{"grid": [0, 1]}, 2]}),
    "a grid in a list": ("victim.recipe", {"schedule": {"kind": "multistep", "milestones": [{"grid": [1, 2]}, 3]}}),
    "null": ("attacks", [{"kind": "extraction", "query_budget": {"grid": [10, None]}}]),
    "an attack in a word": ("attacks", ["extraction"]),
    "a grid of attacks": ("attacks", [{"grid": ["extraction", {"kind": "distillation", "alpha": "1/2"}]}]),
    "a search": ("search", {"kind": "random", "num_samples": 3}),
    "limits": ("limits", {"hours": "1/2"}),
    "tags": ("tags", {"who": "me"}),
}
REFUSED: dict[str, tuple[str, Any]] = {
    "an unknown key": ("victim.scheme", {"kind": "margin", "stepsize": 2}),
    "an unknown kind": ("victim.model", "resnet19"),
    "a missing kind": ("victim.scheme", {"num_queries": 9}),
    "a word for a number": ("victim.seed", "first"),
    "a fraction for a whole number": ("victim.seed", "1/2"),
    "a flag for a number": ("victim.recipe", {"epochs": True}),
    "what is out of range": ("victim.recipe", {"epochs": 0}),
    "an empty grid": ("victim.seed", {"grid": []}),
    "a key beside a grid": ("victim.seed", {"grid": [1], "choice": [2]}),
    "three ends of a range": ("victim.seed", {"integers": [0, 1, 2]}),
    "a range of words": ("victim.model", {"uniform": [0, 1]}),
    "a choice of attacks": ("attacks", [{"choice": ["extraction", "distillation"]}]),
    "a range in an attack": ("attacks", [{"kind": "extraction", "query_budget": {"integers": [1, 9]}}]),
    "a grid outside a victim": ("limits", {"hours": {"grid": [1, 2]}}),
    "an unknown part": ("limit", {"hours": 1}),
}


def changed(place: str, value: Any) -> dict[str, Any]:
    """The small sweep with one value in another place."""
    tree: dict[str, Any] = json.loads(json.dumps(SWEEP))
    *above, last = place.split(".")
    at = tree
    for key in above:
        at = at[key]
    at[last] = value
    return tree


def test_the_schema_is_current(say: Say) -> None:
    assert KEPT.read_text() == schema_text(), "write it anew: launch.py schema > tune_configs/schema.json"
    assert heard(say, "schema") == schema_text()
    jsonschema.Draft7Validator.check_schema(sweep_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_is_valid(path: Path) -> None:
    first, *_ = path.read_text().splitlines()
    assert first == "# yaml-language-server: $schema=schema.json"
    VALIDATOR.validate(plain(load_yaml(path)))


def test_another_reader_of_yaml_finds_every_shipped_file_valid() -> None:
    """As an editor does, to which a fraction is a word."""
    program = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [program, "--schemafile", KEPT, *SHIPPED], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_program_takes_is_valid(name: str) -> None:
    tree = changed(*ALLOWED[name])
    VALIDATOR.validate(tree)
    fractions = json.loads(json.dumps(tree).replace('"3/255"', "0.01").replace('"1/2"', "0.5"))
    sweep: Sweep = decode(Sweep, fractions)
    assert sweep.attack_specs is not None


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_program_refuses_is_not(name: str) -> None:
    assert not VALIDATOR.is_valid(changed(*REFUSED[name]))


def test_a_record_says_what_it_is() -> None:
    margin = sweep_schema()["$defs"]["victim.Margin"]
    assert margin["description"].startswith("Margin-based watermark (Kim et al., 2023)")
    assert margin["properties"]["steps"]["default"] == 5
