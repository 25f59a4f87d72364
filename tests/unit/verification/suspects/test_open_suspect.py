"""Suspects: which forms there are, which need trust, and our own checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mwm.attacks import Distillation
from mwm.config.spec import encode
from mwm.models.build import ArchitectureSpec, build_model
from mwm.models.networks import Cnn, PythonNetwork
from mwm.storage.store import NETWORK, WEIGHTS, Store
from mwm.training.evaluation import predict_logits
from mwm.trials.artifacts import query_set as query_set_of
from mwm.trials.trial import Trial
from mwm.verification.suspects import open_suspect
from tests.helpers.records import VICTIM, Loaded, done, theft
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, Bomb, labels, network, opened, pickled, scores

STUDENT = Cnn(width=3, depth=1)
THEFT = theft(Distillation(student=STUDENT))
PLAN = ArchitectureSpec(model=Cnn(width=4, depth=2), shape=SHAPE, classes=CLASSES)


@pytest.fixture(scope="module")
def store(sets: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A victim and a student of another architecture."""
    made = Store(tmp_path_factory.mktemp("store"))
    for trial in (Trial(victim=VICTIM), THEFT):
        done(trial, sets, made)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The weights file of a small network."""
    made = Store(tmp_path)
    made.save_weights("ab", network().state_dict(), encode(PLAN))
    return made.folder("ab") / WEIGHTS


@pytest.mark.parametrize("trial", [Trial(victim=VICTIM), THEFT], ids=["victim", "student"])
def test_a_checkpoint_answers_as_the_network_it_was(trial: Trial, sets: Loaded, store: Store) -> None:
    outcome = done(trial, sets, store)
    asked = query_set_of(store, outcome.victim_digest)
    model = VICTIM.model if trial.attack is None else STUDENT
    blank: dict[str, Any] = {"mean": [0.0], "std": [1.0], "generator": torch.Generator()}
    before = build_model(model, shape=SHAPE, classes=CLASSES, **blank)
    before.load_state_dict(store.weights(outcome.digest))
    for place in (store.folder(outcome.digest), store.folder(outcome.digest) / WEIGHTS):
        suspect = opened(place)
        said = suspect(asked.images.numpy())
        assert np.array_equal(said, predict_logits(before, asked.images).double().numpy())
        assert (said.argmax(1) == asked.labels.numpy()).sum() == outcome.query_matches
        assert (suspect.name, suspect.access) == (str(place), "checkpoint")


@pytest.mark.slow
def test_a_network_that_a_function_builds_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "built_by_mine.py").write_text(
        "import os\nfrom pathlib import Path\nfrom torch import nn\n"
        "def build(shape, classes):\n"
        "    Path('built.txt').write_text(str(os.getpid()))\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    about = ArchitectureSpec(model=PythonNetwork(function="built_by_mine:build"), shape=SHAPE, classes=CLASSES)
    statistics: dict[str, Any] = {"mean": [0.4], "std": [0.2], "generator": torch.Generator()}
    net = build_model(about.model, shape=SHAPE, classes=CLASSES, **statistics)
    made = Store(tmp_path / "store")
    made.save_weights("ab", net.state_dict(), encode(about))
    (tmp_path / "built.txt").unlink()
    for place in (made.folder("ab"), made.folder("ab") / WEIGHTS):
        with pytest.raises(ValueError, match=r"a function of its maker's builds this network.* add --trust"):
            opened(place)
        assert not (tmp_path / "built.txt").exists()
        suspect = opened(place, trust=True)
        assert np.allclose(suspect(IMAGES), predict_logits(net, torch.from_numpy(IMAGES)).numpy(), atol=1e-6)
        assert suspect.access == "checkpoint"
        assert (tmp_path / "built.txt").read_text() != str(os.getpid())
        (tmp_path / "built.txt").unlink()


def test_a_checkpoint_needs_nothing_but_its_weights_file(file: Path, tmp_path: Path) -> None:
    moved = file.rename(tmp_path / "any.safetensors")
    assert np.array_equal(opened(moved)(IMAGES), scores(network()))


def test_a_finished_entry_that_is_damaged_is_not_asked(store: Store, sets: Loaded, tmp_path: Path) -> None:
    digest = done(THEFT, sets, store).digest
    copy = tmp_path / digest[:2] / digest
    shutil.copytree(store.folder(digest), copy)
    assert labels(opened(copy)).shape == (len(IMAGES),)
    content = bytearray((copy / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copy / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is missing or damaged"):
        opened(copy)


def test_other_images_and_other_classes_are_refused(file: Path) -> None:
    for shape, classes, words in (
        ((3, 6, 6), CLASSES, r"is a network for images \(1, 6, 6\), the key has \(3, 6, 6\)"),
        (SHAPE, 5, "is a network for classes 4, the key has 5"),
    ):
        with pytest.raises(ValueError, match=words):
            open_suspect(str(file), shape=shape, classes=classes)


def rewritten(file: Path, said: str | None) -> None:
    """Let a weights file say something else of its network."""
    save_file(load_file(file), file, None if said is None else {NETWORK: said})


def changed(**changes: Any) -> str:
    return json.dumps({**encode(PLAN), **changes})


DAMAGED = [
    "",
    "nonsense",
    "[" * 10**5,
    "9" * 5000,
    "null",
    "[]",
    "{}",
    changed(model={"kind": "vgg"}),
    changed(model={"kind": "cnn", "width": 0}),
    changed(model={"kind": "cnn", "depth": 10**9}),
    changed(shape=[1, 6]),
    changed(shape="1x6x6"),
    changed(classes=4.5),
    changed(path="/etc"),
]


@pytest.mark.parametrize("said", DAMAGED)
def test_what_a_file_says_of_its_network_may_be_damaged(said: str, file: Path) -> None:
    rewritten(file, said)
    with pytest.raises(ValueError, match="what it says of its network is damaged") as told:
        opened(file)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("width", [5, 10**9, 10**18])
def test_a_network_of_other_weights_is_refused_without_being_built(width: int, file: Path) -> None:
    rewritten(file, changed(model={"kind": "cnn", "width": width, "depth": 2}))
    with pytest.raises(ValueError, match="the weights are not those of the network it names") as told:
        opened(file)
    assert "\n" not in str(told.value)


def test_a_network_too_deep_for_its_images_is_refused(file: Path) -> None:
    rewritten(file, changed(model={"kind": "cnn", "width": 4, "depth": 3}))
    with pytest.raises(ValueError, match="cnn is not allowed for images 6 pixels wide"):
        opened(file)


def test_a_file_of_an_older_version_is_told_apart(file: Path) -> None:
    rewritten(file, None)
    with pytest.raises(ValueError, match="does not say which network its weights are of"):
        opened(file)


def test_a_file_that_is_cut_or_missing(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        opened(file.parent)
    file.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read as safetensors \(No such file"):
        opened(file.parent)
    with pytest.raises(ValueError, match="there is no such file"):
        opened(file)


@pytest.mark.parametrize("address", ["nothing", "a b:c", "s3://bucket/model", "ftp://x", "mod:", ":f", "net.tflite"])
def test_what_is_no_suspect_is_told_with_what_is(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no suspect; allowed: a store entry's folder, .* or module:function"):
        opened(address)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "net.ts", "net.pt", "net.pth", "net.safetensors", "NET.ONNX"])
def test_a_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        opened(tmp_path / name, trust=True)


REFUSED = {
    "net.pt2": "torch.export files hold pickles",
    "net.pt": "a pickled network can run any when it is read",
    "net.pth": "a pickled network can run any when it is read",
    "net.ts": "TorchScript is code",
    "models:/net/1": "a model of MLflow is Python code and pickles",
    "runs:/0123/net": "a model of MLflow is Python code and pickles",
    "mlflow-artifacts:/net": "a model of MLflow is Python code and pickles",
    "tests.helpers.suspected:network": "a module runs its code when it is imported",
}


@pytest.mark.parametrize("address", REFUSED)
def test_what_can_run_code_needs_trust(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if address.startswith("net."):
        Path(address).touch()
    with pytest.raises(ValueError, match=r"; if you trust whoever made it, add --trust, or trust=True") as told:
        opened(address)
    assert str(told.value).startswith(f"{address}: ")
    assert REFUSED[address] in str(told.value)


NAMES = ["net.safetensors", "net.onnx", "net.pt2", "net.ts", "net.pt", "net.pth", "entry/model.safetensors"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [pickled, torch.save], ids=["bare", "torch"])
def test_a_hostile_pickle_is_never_read_without_trust(write: Any, name: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write(Bomb(mark), path)
    with pytest.raises(ValueError, match=r"cannot be read|--trust"):
        opened(path if path.parent == tmp_path else path.parent)
    assert not mark.exists(), "it was read"


@pytest.mark.parametrize("name", ["net.safetensors", "net.onnx"])
def test_nor_with_it_where_no_trust_is_needed(name: str, tmp_path: Path) -> None:
    for write in (pickled, torch.save):
        write(Bomb(tmp_path / "mark"), tmp_path / name)
        with pytest.raises(ValueError, match="cannot be read"):
            opened(tmp_path / name, trust=True)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("write", [pickled, torch.save], ids=["bare", "torch"])
def test_the_pickle_of_these_tests_is_a_live_one(write: Any, tmp_path: Path) -> None:
    write(Bomb(tmp_path / "mark"), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt: "):
        opened(tmp_path / "net.pt", trust=True)
    assert (tmp_path / "mark").exists()
