"""Trained networks in files: read without a further word, and with trust where that can run somebody's code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mwm.config.spec import encode
from mwm.data.images import to_float
from mwm.models.build import ArchitectureSpec, build_model
from mwm.models.exports import write_torchscript
from mwm.models.files import load_model
from mwm.models.networks import Cnn, PythonNetwork
from mwm.storage.store import OUTCOME, WEIGHTS, Store
from mwm.verification.suspects import open_suspect
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, network

PIXELS = to_float(torch.from_numpy(IMAGES))
DIGEST = "0123456789abcdef"
OWN = """
from torch import nn

def build(shape, classes, width):
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, classes))
"""


def entry(folder: Path, made: nn.Module, model: Cnn | PythonNetwork) -> Path:
    """The folder of a finished entry of a store with a network in it."""
    store = Store(folder)
    store.save_weights(DIGEST, made.state_dict(), encode(ArchitectureSpec(model=model, shape=SHAPE, classes=CLASSES)))
    store.commit(DIGEST, {})
    return store.folder(DIGEST)


def test_a_network_of_ours_needs_no_further_word(tmp_path: Path) -> None:
    made = network()
    folder = entry(tmp_path, made, Cnn(width=4, depth=2))
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes((folder / WEIGHTS).read_bytes())
    for place in (folder, folder / WEIGHTS, moved, str(moved)):
        found = load_model(place)
        assert torch.equal(found(PIXELS), made(PIXELS))
        assert not found.training


def test_an_entry_that_is_damaged_is_refused(tmp_path: Path) -> None:
    folder = entry(tmp_path, network(), Cnn(width=4, depth=2))
    assert (folder / OUTCOME).is_file()
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is missing or damaged"):
        load_model(folder)


def test_a_network_of_a_function_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "networks_of_mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    record = PythonNetwork(function="networks_of_mine:build", arguments={"width": 5})
    chance = torch.Generator().manual_seed(1)
    made = build_model(record, shape=SHAPE, classes=CLASSES, mean=[0.5], std=[0.2], generator=chance).eval()
    folder = entry(tmp_path / "store", made, record)
    refused = r"model\.safetensors: model: networks_of_mine:build: a module runs its code.*trust=True in Python$"
    with pytest.raises(ValueError, match=refused):
        load_model(folder)
    assert torch.equal(load_model(folder, trust=True)(PIXELS), made(PIXELS))
    with pytest.raises(ValueError, match=r"a function of its maker's builds this network.*trust=True in Python$"):
        open_suspect(folder, shape=SHAPE, classes=CLASSES)
    said = open_suspect(folder, shape=SHAPE, classes=CLASSES, trust=True)(IMAGES)
    assert torch.allclose(torch.from_numpy(said).float(), made(PIXELS), atol=1e-5)


def test_torchscript_needs_trust(tmp_path: Path) -> None:
    made, file = network(), tmp_path / "network.ts"
    write_torchscript(made, file, SHAPE)
    with pytest.raises(ValueError, match=r"network\.ts: TorchScript is code.*trust=True in Python$"):
        load_model(file)
    assert torch.allclose(load_model(file, trust=True)(PIXELS), made(PIXELS), atol=1e-6)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"network\.ts: cannot be loaded \(RuntimeError") as told:
        load_model(file, trust=True)
    assert "\n" not in str(told.value)


def test_what_holds_no_network_is_told(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").touch()
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("network.onnx", r"network\.onnx: is not allowed; must be a \.safetensors file"),
        ("nowhere.safetensors", r"nowhere\.safetensors: cannot be read as safetensors"),
        ("folder", r"model\.safetensors: cannot be read as safetensors"),
        ("nowhere", r"nowhere: is not allowed; must be"),
    ):
        with pytest.raises(ValueError, match=words):
            load_model(tmp_path / name)
