"""Victims in the model registry of a real MLflow server: served, found by their keys, and registered once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

import mwm
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.registry import FOLDER, MODELS
from mwm.storage.store import Store
from mwm.training.evaluation import predict_logits
from mwm.trials.artifacts import load_stored_key
from mwm.trials.outcome import Outcome
from mwm.trials.trial import Trial
from mwm.verification.suspects import open_suspect
from mwm.watermarks.key import commitment
from tests.helpers.asking import Say, heard, one_line
from tests.helpers.records import MARKED, Loaded, done
from tests.helpers.servers import MlflowServer, free_port, mlflow_server
from tests.helpers.serving import mlflow_scoring
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE


@pytest.fixture(scope="module")
def server(mlflow_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(mlflow_db.read_bytes())
    with mlflow_server(f"sqlite:///{folder}/mlflow.db", folder) as running:
        yield running


@pytest.fixture
def victim(tmp_path: Path, sets: Loaded) -> Outcome:
    """A victim in the store of the folder where commands run."""
    return done(Trial(victim=MARKED), sets, Store(tmp_path / "store"))


@pytest.mark.slow
def test_a_victim_is_registered_with_its_key_and_can_be_served(
    server: MlflowServer, victim: Outcome, say: Say, tmp_path: Path
) -> None:
    digest, name = victim.digest, "networks-of-mine"
    run_id = MlflowExperiment(server.uri, "mine").create("margin", {"kind": "victim", "mwm.digest": digest})
    words = ["model", digest, "--register", name, "--tracking-uri", server.uri]
    told = f"victim {digest}; 16 random images answered as by the network, logits within "
    assert heard(say, *words).startswith(f"models:/{name}/1: registered, {told}")
    assert heard(say, *words).startswith(f"models:/{name}/1: is there already, {told}")
    client = MlflowClient(server.uri)
    (version,) = client.search_model_versions(f"tags.`mwm.digest` = '{digest}'")
    assert version.name == name
    store = Store(tmp_path / "store")
    assert version.tags == {
        "mwm.digest": digest,
        "mwm.query_digest": victim.query_digest,
        "mwm.data_digest": victim.data_digest,
        "key_commitment": commitment(load_stored_key(store, digest)),
    }
    assert version.run_id == run_id
    assert {file.path for file in client.list_artifacts(run_id)} == {FOLDER}
    want = predict_logits(mwm.load_model(store.folder(digest)), torch.from_numpy(IMAGES)).numpy()
    with mlflow_scoring(f"models:/{name}/1", server.uri, tmp_path, free_port()) as address:
        assert np.allclose(open_suspect(address, shape=SHAPE, classes=CLASSES)(IMAGES), want, atol=1e-5)


@pytest.mark.slow
def test_a_victim_of_which_mlflow_knows_nothing_gets_a_run(victim: Outcome, uri: str, say: Say, tmp_path: Path) -> None:
    words = ["model", victim.digest[:8], "net.ts", "--register", "mine", "--tracking-uri", uri]
    written, registered = heard(say, *words).splitlines()
    assert written.startswith(f"net.ts: torchscript, cnn of {victim.digest}")
    assert registered.startswith("models:/mine/1: registered")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(MODELS)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.data.tags["kind"], run.data.tags["mwm.digest"], run.info.status) == ("model", victim.digest, "FINISHED")
    one_line(say("model", victim.digest, "--register", "", "--tracking-uri", uri), "--register: ''")
    one_line(say("model", victim.digest, "--register", "a/b", "--tracking-uri", uri), "--register: 'a/b'")
    assert [one.name for one in client.search_registered_models()] == ["mine"]
    assert (tmp_path / "net.ts").is_file()
