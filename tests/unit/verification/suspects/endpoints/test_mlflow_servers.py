"""PyTorch models behind a real scoring server of MLflow's, logged with a signature and without."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mwm.data.images import to_float
from mwm.storage.tracking_uri import set_mlflow_defaults
from mwm.verification.suspects import NoAnswerError
from tests.helpers.serving import asgi
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, network, opened, scores

PIXELS = to_float(torch.from_numpy(IMAGES))
FLAT = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), CLASSES))


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of its own; and MLflow's note that it serves is taken away again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")


@contextmanager
def scoring(net: nn.Module, folder: Path, *, signature: bool = False) -> Iterator[str]:
    """What `mlflow models serve` runs, with a network that was saved by MLflow's flavour for PyTorch; its address."""
    set_mlflow_defaults()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from mlflow.models import infer_signature
        from mlflow.pyfunc import scoring_server

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        images = infer_signature(PIXELS.numpy()) if signature else None
        form: dict[str, Any] = {"pip_requirements": [], "serialization_format": "pickle", "signature": images}
        mlflow.pytorch.save_model(net, folder / "net", **form)
        app = scoring_server.init(mlflow.pyfunc.load_model(str(folder / "net")))
    with asgi(app) as address:
        yield f"{address}/invocations"


@pytest.mark.slow
def test_a_signature_says_float32(tmp_path: Path) -> None:
    with scoring(network(), tmp_path, signature=True) as address:
        assert np.allclose(opened(address)(IMAGES), scores(network()), atol=1e-5)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # PyTorch's, in the server
@pytest.mark.slow
def test_without_one_a_flat_network_is_sent_a_table(tmp_path: Path) -> None:
    """Of a table MLflow makes float32, of images float64, which the network refuses."""
    right = FLAT(PIXELS).detach().numpy()
    with scoring(FLAT, tmp_path) as address:
        suspect = opened(address)
        assert np.allclose(suspect(IMAGES), right, atol=1e-5)
        assert np.allclose(suspect(IMAGES[:2]), right[:2], atol=1e-5)


@pytest.mark.slow
def test_without_one_a_network_of_images_is_told_what_it_lacks(tmp_path: Path) -> None:
    words = r"refuses with 400 .*Double.*; its network takes float32, .*signature"
    with scoring(network(), tmp_path) as address, pytest.raises(NoAnswerError, match=words) as told:
        opened(address)(IMAGES)
    assert "\n" not in str(told.value)
