"""Trials on arrays in memory and on what a function returns: the same trials as on a file of the same content."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import mwm
from mwm.config.spec import decode, encode
from mwm.data.datasets import ArrayData, Npz, PythonData
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import Store
from mwm.trials.artifacts import load_stored_key
from mwm.trials.trial import Victim
from mwm.trials.validation import Places
from mwm.verification.diagnosis.probe import KEYS, OWN, make_probe
from mwm.watermarks.key import commitment
from tests.helpers.asking import Say, heard, one_line
from tests.helpers.checked import swept
from tests.helpers.records import VICTIM, arrays

CONTENT = arrays(140, (6, 6, 1), 4, 0)
FOREIGN = arrays(40, (9, 7, 3), 6, 1)
SMALL: dict[str, Any] = {
    **{name: value for name, value in encode(VICTIM).items() if name != "data"},
    "recipe": {"epochs": 2, "batch_size": 16},
}
MODULE = """
from tests.helpers.records import arrays

print("the code of a stranger has run")

def load(seed=0):
    return arrays(140, (6, 6, 1), 4, seed)
"""


def own(**shown: Any) -> ArrayData:
    return mwm.Arrays(**CONTENT, **{"flip": False, "pad": 0, **shown})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PythonData]:
    """A function of one's own in the folder of the command."""
    (tmp_path / "own_source.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield PythonData(function="own_source:load", flip=False, pad=0)
    sys.modules.pop("own_source", None)


def test_one_content_is_one_victim(tmp_path: Path, module: PythonData) -> None:
    np.savez(tmp_path / "own.npz", **CONTENT)
    file = Npz(path=str(tmp_path / "own.npz"), flip=False, pad=0)
    first = mwm.train_victim(**SMALL, data=own(), store=tmp_path / "store")
    for data in (file, module):
        seen: list[Any] = []
        again = mwm.train_victim(**SMALL, data=data, store=tmp_path / "store", on_epoch=seen.append, trust=True)
        assert (again.outcome, seen) == (first.outcome, []), "it is taken from the store"
    shown = mwm.train_victim(**SMALL, data=own(flip=True), store=tmp_path / "store")
    assert shown.outcome.digest != first.outcome.digest


def test_a_plain_mapping_is_one_of_arrays(tmp_path: Path) -> None:
    victim = mwm.train_victim(**SMALL, data=CONTENT, store=tmp_path)
    assert victim.spec.data == mwm.Arrays(**CONTENT)
    other = mwm.train_victim(victim.spec, data=arrays(140, (6, 6, 1), 4, 5), store=tmp_path)
    assert other.outcome.data_digest != victim.outcome.data_digest


def test_who_attacks_may_have_arrays_of_ones_own(tmp_path: Path) -> None:
    victim = mwm.train_victim(**SMALL, data=own(), store=tmp_path)
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 16}
    by_record = mwm.run_attack(victim, mwm.Extraction(source=mwm.Arrays(**FOREIGN), recipe=mwm.Recipe(**recipe)))
    by_mapping = mwm.run_attack(victim, {"kind": "extraction", "source": FOREIGN, "recipe": recipe})
    assert by_record.outcome == by_mapping.outcome
    other = mwm.run_attack(victim, mwm.Extraction(recipe=mwm.Recipe(**recipe)))
    assert other.outcome.digest != by_record.outcome.digest


def test_another_process_takes_it_from_the_store(tmp_path: Path) -> None:
    victim = mwm.train_victim(**SMALL, data=own(), store=tmp_path / "store")
    code = f"""
import mwm
from tests.unit.trials.test_sources import CONTENT, SMALL
seen = []
data = mwm.Arrays(**CONTENT, flip=False, pad=0)
victim = mwm.train_victim(**SMALL, data=data, store={str(tmp_path / "store")!r}, on_epoch=seen.append)
print(len(seen), victim.outcome.digest)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", victim.outcome.digest], done.stderr


def test_the_key_of_arrays_is_a_key_as_others_are(tmp_path: Path, say: Say) -> None:
    data = own()
    victim = mwm.train_victim(**SMALL, data=data, store=tmp_path / "store")
    assert victim.key.data == encode(data)
    assert mwm.verify(victim.key, victim.model).suspects[0].p_value == pytest.approx(victim.outcome.p_value)
    digits = commitment(victim.key)
    again = ["open", "key", "--commitment", digits, "--recompute"]
    heard(say, "export", victim.outcome.digest, "key", "--force")
    assert digits in heard(say, "commit", "key", "--force")
    one_line(say(*again), f"the arrays {victim.outcome.data_digest} were in the memory of another process")
    np.savez(tmp_path / "own.npz", **CONTENT)
    saved = ["--set", "data.kind=npz", "--set", "data.path=own.npz"]
    assert heard(say, *again, *saved).endswith("; opens the commitment; all of it comes out of its data again\n")
    np.savez(tmp_path / "own.npz", **arrays(140, (6, 6, 1), 4, 1))
    one_line(say(*again, *saved), "data: has the digest")


def test_a_suspect_is_shown_the_owners_test_images_while_they_are_in_memory(tmp_path: Path) -> None:
    data = mwm.Arrays(**arrays(140, (6, 6, 1), 4, 3), flip=False, pad=0)
    mwm.train_victim(**SMALL, data=data, store=tmp_path)
    key = load_stored_key(Store(tmp_path), _only_digest(tmp_path))
    assert make_probe(key).source == OWN
    del data
    gc.collect()
    assert make_probe(key).source == KEYS


def test_a_mistake_in_arrays_has_its_place() -> None:
    with pytest.raises(
        ValueError, match=r"^data: x_train has type float64 .*; allowed: uint8 from 0 to 255; in NumPy:"
    ):
        mwm.train_victim(**SMALL, data={**CONTENT, "x_train": CONTENT["x_train"] / 255})
    with pytest.raises(
        ValueError, match=r"^victim\.data: arrays 0{16} are not in the memory of this process; allowed:"
    ):
        mwm.train_victim(**SMALL, data=ArrayData(digest="0" * 16))
    with pytest.raises(ValueError, match=r"^victim\.data: 2 classes are not allowed"):
        mwm.train_victim(**SMALL, data=arrays(140, (6, 6, 1), 2, 0))


def test_a_function_is_trusted_or_refused(
    module: PythonData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = r"^victim\.data\.function: own_source:load: a module runs its code when it is imported; if you trust"
    with pytest.raises(ValueError, match=line):
        mwm.train_victim(**SMALL, data=module, store=tmp_path)
    victim = mwm.train_victim(**SMALL, data=own(), store=tmp_path)
    with pytest.raises(ValueError, match=r"^attack\.source\.function: own_source:load: .*add --trust"):
        mwm.run_attack(victim, mwm.Extraction(source=module))
    other = replace(module, arguments={"seed": 1})
    assert "stranger" not in capsys.readouterr().out
    mwm.run_attack(victim, mwm.Extraction(source=other, recipe=mwm.Recipe(epochs=1, batch_size=16)), trust=True)
    assert "stranger" in capsys.readouterr().out


def test_a_key_runs_no_code_of_whoever_made_it(module: PythonData, tmp_path: Path, say: Say) -> None:
    victim = mwm.train_victim(**SMALL, data=own(), store=tmp_path / "store")
    key = replace(victim.key, data=encode(module))
    assert make_probe(key).source == KEYS
    heard(say, "export", victim.outcome.digest, "key", "--force")
    again = ["open", "key", "--commitment", commitment(key), "--recompute"]
    place = ["--set", "data.kind=python", "--set", f"data.function={module.function}"]
    one_line(say(*again, *place), "data.function: own_source:load: ", "add --trust")
    assert "own_source" not in sys.modules
    assert heard(say, *again, *place, "--trust").endswith("all of it comes out of its data again\n")


def test_a_sweep_over_a_function_or_over_arrays_is_checked(module: PythonData, tmp_path: Path, say: Say) -> None:
    victim = {**SMALL, "data": {"kind": "python", "function": module.function, "arguments": {"seed": 0}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "victim": victim}))
    one_line(say("check", "mine.yaml"), "victim.data.function: own_source:load: ", "add --trust")
    assert "victim.data: python, 140 training and 40 test images, 1×6×6" in heard(say, "check", "mine.yaml", "--trust")
    foreign = [{"kind": "extraction", "source": encode(replace(module, arguments={"seed": 1}))}]
    sets, notes = validate(swept(foreign, **victim), Places(trust=True))
    assert notes == []
    assert len(sets) == 2
    assert own().digest in {dataset.digest for dataset in sets.values()}
    assert {*sets.sources} == {module.function}
    with pytest.raises(ValueError, match=r"source: 'python' is not allowed: it is the victim's data set, with the im"):
        validate(swept([{"kind": "extraction", "source": encode(module)}], **victim), Places(trust=True))
    data = own()
    sets, _ = validate(swept(**{**SMALL, "data": encode(data)}))
    assert [*sets.values()] == [data.dataset]


def _only_digest(store: Path) -> str:
    (entry,) = [path.parent.name for path in store.rglob("key.json")]
    return entry


def test_a_victim_of_arrays_is_read_back_from_its_tree() -> None:
    data = own()
    victim: Victim = decode(Victim, {**SMALL, "data": data})
    assert decode(Victim, encode(victim)) == victim
    assert decode(Victim, encode(victim)).data.dataset is data.dataset
