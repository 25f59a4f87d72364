"""Drafts: a text field keeps what was written, a number field gets the number, wherever either stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mwm.config.loader import load_yaml
from mwm.config.spec import decode, encode
from mwm.config.written import number_text
from mwm.runner.sweeps.sweep import Sweep, load_sweep

TEXTS = (
    *("0012345", "1.10", "61e9540", "2024/11", "1/0", "2024-01-01", "12:30:45", "0x1F", "0o17", "1_000", "1e-3", ".5"),
    *("+1", "007", "1.", "true", "True", "on", "no", "NO", "off", "null", "~", "", ".nan", ".inf", "Müller"),
)
SWEEP = """
name: 0012
victim:
  data: {kind: npz, path: 1.10}
  model: {kind: cnn, width: 010}
  scheme: {kind: margin, step_size: {grid: [3/255, 1e-2]}}
  recipe: {lr: .5}
  secret: 61e9540
  seed: 007
attacks:
  - {kind: extraction, source: {kind: imagefolder, root: 2024/11}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_a_tag_is_what_was_written(text: str, path: Path) -> None:
    told = path.read_text(encoding="utf-8")
    path.write_text(f"{told}tags: {{a: {text}}}\n", encoding="utf-8")
    sweep = load_sweep(path, [f"tags.b={text}"], tags=[f"c={text}"])
    assert sweep.tags == dict.fromkeys("abc", text)


def test_text_stays_text_and_numbers_are_numbers(path: Path) -> None:
    sweep = load_sweep(path)
    assert sweep.name == "0012"
    one, other = sweep.victim_specs
    assert encode(one.data)["path"] == "1.10"
    assert (one.secret, one.seed, one.recipe.lr, encode(one.model)["width"]) == ("61e9540", 7, 0.5, 10)
    assert [encode(victim.scheme)["step_size"] for victim in (one, other)] == [3 / 255, 0.01]
    ((_, attack),) = sweep.attack_specs
    assert encode(attack)["source"]["root"] == "2024/11"
    for number in (one.seed, one.recipe.lr, encode(one.scheme)["step_size"]):
        assert type(number) in (int, float)


def test_text_stays_text_in_overrides_and_under_domains(path: Path) -> None:
    changes = (
        "name=1e3",
        "victim.data={kind: {grid: [npz]}, path: {grid: [0x1F, 1.10, ~]}}",
        "victim.scheme.step_size=3/255",
        "victim.secret=null",
    )
    sweep = load_sweep(path, changes)
    assert sweep.name == "1e3"
    assert [encode(victim.data)["path"] for victim in sweep.victim_specs] == ["0x1F", "1.10", "~"]
    assert {victim.secret for victim in sweep.victim_specs} == {None}


def test_a_sweep_is_read_back_from_its_json(path: Path, tmp_path: Path) -> None:
    sweep = load_sweep(path, ["tags.a=1.10"])
    kept = tmp_path / "sweep.json"
    kept.write_text(json.dumps(encode(sweep), indent=1), encoding="utf-8")
    again: Sweep = decode(Sweep, load_yaml(kept))
    assert again == sweep
    assert again.config_digest == sweep.config_digest
    assert '"step_size": {\n    "grid": [\n     0.011764705882352941' in kept.read_text(encoding="utf-8")


FAULTS = [
    ("victim.seed='5'", "victim.seed: '5' is not allowed: must be a whole number; leave out the quotes"),
    ("victim.seed=0x1F", "victim.seed: '0x1F' is not allowed: must be a whole number"),
    ("victim.seed=2024-01-01", "victim.seed: '2024-01-01' is not allowed: must be a whole number"),
    ("victim.seed=no", "victim.seed: 'no' is not allowed: must be a whole number"),
    ("victim.seed=", "victim.seed: None is not allowed: must be a whole number"),
    ("victim.recipe.lr=61e9540", "victim.recipe.lr: 61e9540 is not allowed: must be a finite number"),
    ("victim.recipe.lr=1/0", "victim.recipe.lr: '1/0' is not allowed: must be a number"),
    ("tags.a=[1.10]", "tags.a: ['1.10'] is not allowed: must be a word; write it in quotes"),
    (
        "victim.scheme.step_size=[1/255, 2/255]",
        "victim.scheme.step_size: [1/255, 2/255] is not allowed: must be a number; "
        "for many values write {grid: [1/255, 2/255]}",
    ),
    (
        "victim.seed={gird: [0]}",
        "victim.seed: {'gird': [0]} is not allowed: must be a whole number; did you mean {grid: [...]}?",
    ),
    (
        "attacks.0.labels=[soft]",
        "attacks.0.labels: ['soft'] is not allowed: must be 'soft' or 'hard'; for many values write {grid: ['soft']}",
    ),
    (
        "victim.scheme.step_size=258/255",
        "victim.scheme.step_size: 258/255 is not allowed: images are in [0, 1]; write k/255",
    ),
]


@pytest.mark.parametrize(("change", "line"), FAULTS)
def test_a_fault_tells_the_value_as_it_was_written(change: str, line: str, path: Path) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        _expanded(path, change)
    assert str(caught.value) == line


def _expanded(path: Path, change: str) -> Any:
    sweep = load_sweep(path, [change])
    return sweep.attack_specs, sweep.victim_specs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (0.1, "0.1"),
            (51 / 255, "0.2"),
            (3 / 255, "3/255"),
            (0.5 / 255, "0.5/255"),
            (1 / 7, "1/7"),
            (-6 / 255, "-6/255"),
        ),
        *((1e-05, "1e-05"), (0.1 + 0.2, "0.30000000000000004"), (2.0, "2.0"), (1 / 3, "85/255"), (float("inf"), "inf")),
    ],
)
def test_a_number_is_told_as_people_write_it(value: float, text: Any) -> None:
    assert number_text(value) == text
