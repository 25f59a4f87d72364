"""PyTorch models behind a real scoring server of MLflow's, logged with a signature and without."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mwm.data.images import to_float
from mwm.storage.tracking_uri import set_mlflow_defaults
from mwm.verification.suspects import NoAnswerError
from tests.helpers.servers import free_port
from tests.helpers.serving import mlflow_scoring
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, network, opened, scores

FLAT = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), CLASSES))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own."""
    monkeypatch.chdir(tmp_path)


def saved(net: nn.Module, folder: Path, *, signature: bool) -> str:
    """The folder of a network that was saved by MLflow's own flavour for PyTorch."""
    set_mlflow_defaults()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from mlflow.models import infer_signature

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        pixels = to_float(torch.from_numpy(IMAGES)).numpy()
        told = infer_signature(pixels, scores(network()).astype(np.float32)) if signature else None
        form = {"pip_requirements": [], "serialization_format": "pickle"}
        mlflow.pytorch.save_model(net, folder / "net", signature=told, **form)
    return str(folder / "net")


@pytest.mark.slow
def test_a_signature_says_float32(uri: str, tmp_path: Path) -> None:
    with mlflow_scoring(saved(network(), tmp_path, signature=True), uri, tmp_path, free_port()) as address:
        assert np.allclose(opened(address)(IMAGES), scores(network()), atol=1e-5)


@pytest.mark.slow
def test_without_one_a_flat_network_is_sent_a_table(uri: str, tmp_path: Path) -> None:
    """Of a table MLflow makes float32, of images float64, which the network refuses."""
    right = FLAT(to_float(torch.from_numpy(IMAGES))).detach().numpy()
    with mlflow_scoring(saved(FLAT, tmp_path, signature=False), uri, tmp_path, free_port()) as address:
        suspect = opened(address)
        assert np.allclose(suspect(IMAGES), right, atol=1e-5)
        assert np.allclose(suspect(IMAGES[:2]), right[:2], atol=1e-5)


@pytest.mark.slow
def test_without_one_a_network_of_images_is_told_what_it_lacks(uri: str, tmp_path: Path) -> None:
    with (
        mlflow_scoring(saved(network(), tmp_path, signature=False), uri, tmp_path, free_port()) as address,
        pytest.raises(NoAnswerError, match=r"refuses with 400 .*Double.*; its network takes float32, .*signature") as told,
    ):
        opened(address)(IMAGES)
    assert "\n" not in str(told.value)
