"""Models of MLflow as suspects: loaded from a store, and behind a real scoring server."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mwm.storage.tracking_uri import artifact_location, set_mlflow_defaults
from mwm.verification.suspects import NoAnswerError, open_suspect
from tests.helpers.servers import free_port, mlflow_server
from tests.helpers.serving import mlflow_scoring
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, Bomb, labels, network, opened, pickled, scores

RIGHT = scores(network())
Answer = Callable[[NDArray[np.float64]], Any]
ANSWERS: dict[str, Answer] = {
    "scores": lambda said: said,
    "labels": lambda said: said.argmax(1),
    "list": lambda said: said.argmax(1).tolist(),
    "frame": pd.DataFrame,
    "label frame": lambda said: pd.DataFrame({"label": said.argmax(1)}),
    "series": lambda said: pd.Series(said.argmax(1)),
    "output": lambda said: {"logits": said},
    "outputs": lambda said: {"label": said.argmax(1), "probabilities": np.exp(said)},
}


@dataclass(frozen=True)
class Logged:
    """Where a model was logged, and what it is called there."""

    uri: str
    run: str
    model: str


def log(uri: str, answer: str = "scores", of: Callable[[], nn.Module] = network, **more: Any) -> Logged:
    """Log a network to a store as a Python function that answers in one of the forms."""
    set_mlflow_defaults()
    before = os.environ.get("MLFLOW_TRACKING_URI")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.pyfunc.model import PythonModel
        from mlflow.types import Schema, TensorSpec

        class Network(PythonModel):
            def predict(self, model_input: np.ndarray) -> Any:  # type: ignore[override]
                with torch.inference_mode():
                    return ANSWERS[answer](of()(torch.from_numpy(model_input)).double().numpy())

        images = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *SHAPE))]))
        told: dict[str, Any] = {"signature": images, "pip_requirements": [], **more}
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        mlflow.set_tracking_uri(uri)
        try:
            experiment = mlflow.create_experiment("suspects", artifact_location(uri, "suspects"))
            with mlflow.start_run(experiment_id=experiment) as run:
                made = mlflow.pyfunc.log_model(name="net", python_model=Network(), **told)
        finally:
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]
    return Logged(uri, run.info.run_id, made.model_uri)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, so that nothing is found or left in another; and no store but the one that is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_model_answers_in_every_form(answer: str, uri: str) -> None:
    made = log(uri, answer)
    suspect = opened(made.model, trust=True, tracking_uri=uri)
    assert np.array_equal(labels(suspect), RIGHT.argmax(1))
    assert (suspect.name, suspect.access) == (made.model, "mlflow")


@pytest.mark.slow
def test_a_model_is_found_under_all_its_names(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    made = log(uri, registered_model_name="net")
    MlflowClient(uri).set_registered_model_alias("net", "champion", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for address in (made.model, f"runs:/{made.run}/net", "models:/net/1", "models:/net@champion", "models:/net/latest"):
        assert np.array_equal(opened(address, trust=True, tracking_uri=uri)(IMAGES), RIGHT), address
    assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert np.array_equal(opened("models:/net/1", trust=True)(IMAGES), RIGHT)
    assert os.environ["MLFLOW_TRACKING_URI"] == uri
    gc.collect()
    assert not [*tmp_path.glob("mwm-suspect-*")], "files were left"


@pytest.mark.slow
def test_a_model_that_is_not_there(uri: str) -> None:
    for address in ("models:/none/1", "models:/m-0123", "runs:/0123/net", "models:/"):
        with pytest.raises(ValueError, match=f"{address}: cannot be loaded from sqlite:///") as told:
            opened(address, trust=True, tracking_uri=uri)
        assert "\n" not in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["http://owner:secret@127.0.0.1:{}", "postgresql://owner:secret@127.0.0.1:{}/mlflow"])
def test_a_store_that_is_not_there(store: str) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="models:/net/1: cannot be loaded from ") as told:
        opened("models:/net/1", trust=True, tracking_uri=store.format(free_port()))
    assert time.monotonic() - began < 60
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_a_model_that_takes_other_images_is_refused_before_it_is_asked(uri: str) -> None:
    made = log(uri)
    with pytest.raises(ValueError, match=r"is a network for images \(n, 1, 6, 6\), the key has \(n, 3, 6, 6\)"):
        open_suspect(made.model, shape=(3, 6, 6), classes=CLASSES, trust=True, tracking_uri=uri)


@pytest.mark.slow
def test_a_model_is_not_touched_without_trust(uri: str, tmp_path: Path) -> None:
    """Its pickle is replaced by one that leaves a file, which shows that trust is what it takes."""
    made, mark = log(uri), tmp_path / "mark"
    (pickle,) = (path for path in tmp_path.rglob("python_model.pkl"))
    pickled(Bomb(mark), pickle)
    with pytest.raises(ValueError, match="--trust"):
        opened(made.model, tracking_uri=uri)
    assert not mark.exists()
    with pytest.raises(ValueError, match="cannot be loaded"):
        opened(made.model, trust=True, tracking_uri=uri)
    assert mark.exists()


@pytest.mark.slow
def test_a_model_behind_the_artifact_proxy_of_a_server(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with mlflow_server(f"sqlite:///{tmp_path}/server/mlflow.db", tmp_path / "server") as server:
        made = log(server.uri)
        from mlflow import MlflowClient

        place = MlflowClient(server.uri).get_logged_model(made.model.removeprefix("models:/")).artifact_location
        assert place.startswith("mlflow-artifacts:/")
        for address in (place, made.model):
            assert np.array_equal(opened(address, trust=True, tracking_uri=server.uri)(IMAGES), RIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["scores", "labels", "frame", "output"])
def test_a_real_scoring_server(answer: str, uri: str, tmp_path: Path) -> None:
    made = log(uri, answer)
    with mlflow_scoring(made.model, uri, tmp_path, free_port()) as address:
        suspect = opened(address)
        said = suspect(IMAGES)
        assert np.array_equal(said, RIGHT if said.ndim == 2 else RIGHT.argmax(1))
        assert (suspect.name, suspect.access, said.ndim) == (address, "endpoint", 1 if answer == "labels" else 2)
        other = open_suspect(address, shape=(3, 6, 6), classes=CLASSES)
        with pytest.raises(NoAnswerError, match="refuses with 400 Bad Request: Error: Failed to enforce schema"):
            other(np.zeros((2, 3, 6, 6), np.uint8))
    with pytest.raises(NoAnswerError, match="gave no answer in 2 attempts; the last: ConnectionRefusedError"):
        opened(address, retries=1)(IMAGES)
