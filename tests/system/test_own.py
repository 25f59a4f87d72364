"""The walk of a newcomer: own pictures, own network, own weights; a watermark, a key, a theft and a verdict on it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor, nn

from tests.helpers.launching import launched
from tests.helpers.servers import free_port
from tests.helpers.serving import mlflow_scoring
from tests.system.test_launch import mlflow_runs, results

pytestmark = pytest.mark.slow

SIDE, CLASSES = 24, ("ant", "bee", "cat", "dog", "eel")
PICTURES = {"train": 1200, "test": 300}
NORMALIZE = {"mean": [0.5] * 3, "std": [0.25] * 3}
NETWORKS = """
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer


def vit(shape, classes):
    return VisionTransformer(shape[1], 4, 2, 2, 32, 64, num_classes=classes)


def cnn(shape, classes, width=16):
    layers, before = [], shape[0]
    for after in (width, 2 * width, 2 * width):
        conv = nn.Conv2d(before, after, 3, padding=1)
        layers, before = [*layers, conv, nn.GroupNorm(4, after), nn.ReLU(), nn.MaxPool2d(2)], after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
"""
EMBED: dict[str, Any] = {
    "split": {"disjoint": 0.1},
    "recipe": {"epochs": 15, "batch_size": 32, "optimizer": "adamw", "lr": 0.001, "schedule": "cosine"},
    "scheme": {"kind": "margin", "num_queries": 30, "steps": 3, "weight": 1.0, "mass": 0.6},
}


def gratings(labels: Tensor, drawn: torch.Generator) -> Tensor:
    """Coloured waves whose direction is their class (n h w c in [0, 1])."""
    n, lines = len(labels), torch.linspace(0, 1, SIDE)
    angle = (torch.pi * labels / len(CLASSES) + 0.12 * torch.randn(n, generator=drawn))[:, None, None]
    phase, pace = (torch.rand(n, 1, 1, generator=drawn) for _ in range(2))
    along = lines * torch.cos(angle) + lines[:, None] * torch.sin(angle)
    wave = 0.5 + 0.5 * torch.sin(2 * torch.pi * ((2 + 2 * pace) * along + phase))
    noisy = wave[..., None] * (0.3 + 0.7 * torch.rand(n, 1, 1, 3, generator=drawn))
    return (noisy + 0.08 * torch.randn(n, SIDE, SIDE, 3, generator=drawn)).clamp(0, 1)


def trained(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The state dict of a network that its owner has trained as people do, with nothing of mwm."""
    torch.manual_seed(0)
    steps = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(8):
        for pick in torch.split(torch.randperm(len(images)), 64):
            loss = F.cross_entropy(network((images[pick] - 0.5) / 0.25), labels[pick])
            steps.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            steps.step()
    return network.state_dict()


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an owner's: 1,500 pictures in folders, networks.py, and the weights of two networks."""
    folder, drawn = tmp_path_factory.mktemp("owned"), torch.Generator().manual_seed(0)
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    for part, count in PICTURES.items():
        labels = torch.arange(count) % len(CLASSES)
        parts[part] = gratings(labels, drawn), labels
        for number, (picture, label) in enumerate(zip(*parts[part], strict=True)):
            place = folder / "pictures" / part / CLASSES[label] / f"{number:04}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((picture.numpy() * 255).astype(np.uint8)).save(place)
    (folder / "networks.py").write_text(NETWORKS)
    space: dict[str, Any] = {}
    exec(NETWORKS, space)
    images, labels = parts["train"]
    for name in ("vit", "cnn"):
        torch.manual_seed(1)
        network = space[name]((3, SIDE, SIDE), len(CLASSES))
        torch.save(trained(network, images.permute(0, 3, 1, 2), labels), folder / f"{name}.pt")
    return folder


def asked(folder: Path, network: str, **victim: Any) -> Path:
    """A sweep file for a network of the owner's, and one theft of each victim."""
    data = {"kind": "imagefolder", "root": "pictures", "size": SIDE, "flip": False, "pad": 2}
    model = {"kind": "python", "function": f"networks:{network}", "normalize": NORMALIZE}
    thief = {"epochs": 20, "batch_size": 32, "optimizer": "adamw", "lr": 0.002, "schedule": "cosine"}
    tree = {
        "name": network,
        "victim": {"data": data, "model": model, "start": f"{network}.pt", **victim},
        "attacks": [{"kind": "extraction", "recipe": thief}],
    }
    path = folder / f"{network}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def fine(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("network", ["vit", "cnn"])
def test_from_pictures_and_weights_to_the_verdict_on_a_theft(owned: Path, network: str) -> None:
    # The three commands from a folder and a file of weights to a key that is committed to.
    fine(launched(owned, "run", asked(owned, network, **EMBED), "--trust"))
    rows = {row["kind"]: row for row in results(owned, network)}
    victim, theft = rows["victim"], rows["attack"]
    fine(launched(owned, "export", victim["digest"], f"{network}.key"))
    commitment = re.findall(r"[0-9a-f]{64}", fine(launched(owned, "commit", f"{network}.key")))[0]

    assert (victim["status"], victim["marked"], theft["status"]) == ("done", "True", "done")
    assert float(victim["start_acc"]) > 0.95
    assert float(victim["clean_acc"]) > float(victim["start_acc"]) - 0.03
    assert (victim["victim.split.validation"], victim["victim.split.queries"]) == ("120", "120"), "a tenth of 1,200"
    tags = {run.data.tags["kind"]: run.data.tags for run in mlflow_runs(owned, network)}
    assert tags["victim"]["mwm.marked"] == "true"

    # The theft is sold as a service; the owner asks it.
    fine(launched(owned, "model", theft["digest"], f"stolen-{network}", "--trust"))
    with mlflow_scoring(f"stolen-{network}", "sqlite:///mlflow.db", owned, free_port()) as address:
        words = ["--key", f"{network}.key", "--suspect", address, "--commitment", commitment]
        verdict = launched(owned, "verify", *words, "--output", f"{network}.verdict")
    told = json.loads((owned / f"{network}.verdict" / "verdict.json").read_text())
    assert float(theft["log10_p"]) == pytest.approx(np.log10(told["suspects"][0]["p_value"]), abs=0.5)
    proven = float(theft["log10_p"]) <= -3
    assert (verdict.returncode, told["decision"]) == ((0, "proven") if proven else (3, "not proven")), verdict.stdout


def test_a_newcomer_is_told_what_will_not_work(owned: Path) -> None:
    plain: dict[str, Any] = {"scheme": {"kind": "margin", "num_queries": 30}}
    refused = launched(owned, "check", asked(owned, "vit", **plain))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "networks:vit: a module runs its code when it is imported" in refused.stderr

    told = fine(launched(owned, "check", asked(owned, "vit", **plain), "--trust"))
    assert "7 steps an epoch, of 128 (default) images each; 42 steps in 6 epochs" in told
    assert "queries: 120, by default a tenth" in told

    done = launched(owned, "run", asked(owned, "cnn", **plain), "--trust", "--name", "defaults")
    assert done.returncode == 3, done.stdout + done.stderr
    rows = {row["kind"]: row for row in results(owned, "defaults")}
    assert (rows["victim"]["marked"], rows["attack"]["status"]) == ("False", "skipped")
    assert "unmarked" in done.stdout
    kept = launched(owned, "export", rows["victim"]["digest"], "defaults.key")
    assert (kept.returncode, (owned / "defaults.key").exists()) == (2, False)
    assert "--force" in kept.stderr
