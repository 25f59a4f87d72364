"""Networks as models of MLflow: a folder with a signature and an input example, and versions in a model registry."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mwm.models.exports import example_images
from mwm.runner.tracking.artifacts import UnsharedFolderError
from mwm.runner.tracking.client import MlflowExperiment, experiments, open_store
from mwm.runner.tracking.faults import PERMANENT_ERRORS, error_code, reason, tracking_error
from mwm.runner.tracking.runs import DIGEST
from mwm.storage.redaction import in_one_line
from mwm.storage.tracking_uri import experiment_name, resolve_tracking_uri, set_mlflow_defaults
from mwm.trials.provenance import provenance

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MODELS = "models"
"""The experiment of networks whose training MLflow does not know."""

FOLDER = "model"
"""The folder of a network among the files of its run."""

LIBRARIES = ("torch", "torchvision", "numpy")
"""What a server of such a model needs: PyTorch, and what its networks may use operators of."""


def write_mlflow_model(network: nn.Module, folder: Path, *, shape: tuple[int, int, int], classes: int) -> None:
    """Write a network for images of a `shape` (c, h, w) as the folder of an MLflow model.

    It holds a graph of PyTorch and no pickle, says by a signature that float32 images go in, any number at a time, and
    logits come out, and has two grey images as an example. Raises ValueError, in one line, if that fails.
    """
    set_mlflow_defaults()
    with in_one_line("this network cannot be written as a model of MLflow"):
        _save(network, folder, shape=shape, classes=classes)


def _save(network: nn.Module, folder: Path, *, shape: tuple[int, int, int], classes: int) -> None:
    import mlflow.pytorch
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    one = np.dtype(np.float32)
    goes_in, comes_out = TensorSpec(one, (-1, *shape)), TensorSpec(one, (-1, classes))
    versions = provenance()
    mlflow.pytorch.save_model(
        network,
        folder,
        signature=ModelSignature(inputs=Schema([goes_in]), outputs=Schema([comes_out])),
        input_example=example_images(shape).numpy(),
        serialization_format="pt2",
        pip_requirements=["mlflow", *(f"{name}=={versions[f'version.{name}']}" for name in LIBRARIES)],
    )


class ModelRegistry:
    """The model registry of the MLflow at `uri`; ValueError, in one line, if it cannot be reached."""

    def __init__(self, uri: str | None) -> None:
        self.uri = resolve_tracking_uri(uri)
        try:
            self._client: MlflowClient = open_store(self.uri)
        except Exception as error:
            raise tracking_error(self.uri, error) from None

    def version_of(self, name: str, digest: str) -> str | None:
        """The latest version of the model called `name` that is the network of a `digest`; None if there is none."""
        try:
            found = self._client.search_model_versions(f"tags.`{DIGEST}` = '{digest}'")
        except Exception as error:
            raise tracking_error(self.uri, error) from None
        return max((str(version.version) for version in found if version.name == name), key=int, default=None)

    def register(self, name: str, folder: Path, tags: Mapping[str, str]) -> str:
        """Make the MLflow model in a folder a version of the model called `name`; its number.

        The files go to the run of the victim whose digest is among `tags`; where MLflow has none, to a run of their own
        in the experiment `models`. Raises ValueError, in one line.
        """
        try:
            self._make(name)
            run = self._run(tags[DIGEST])
            experiment = MlflowExperiment(self.uri, self._client.get_experiment(run.info.experiment_id).name)
            with tempfile.TemporaryDirectory(prefix="mwm-model-") as place:
                experiment.log_artifact(run.info.run_id, shutil.copytree(folder, Path(place) / FOLDER))
            source, about = f"{run.info.artifact_uri}/{FOLDER}", {"run_id": run.info.run_id, "tags": dict(tags)}
            return str(self._client.create_model_version(name, source, **about).version)
        except Exception as error:
            if error_code(error) in PERMANENT_ERRORS or isinstance(error, UnsharedFolderError):
                raise ValueError(f"--register: {name!r} is refused there ({reason(error)})") from None
            raise tracking_error(self.uri, error) from None

    def _make(self, name: str) -> None:
        """Make the model called `name`, unless there is one."""
        try:
            self._client.create_registered_model(name)
        except Exception as error:
            if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                raise

    def _run(self, digest: str) -> Run:
        """The newest run of a victim; a new one where MLflow has never heard of it."""
        everywhere = [one.experiment_id for one in experiments(self._client, None)]
        condition = f"tags.kind = 'victim' and tags.`{DIGEST}` = '{digest}'"
        newest: dict[str, Any] = {"max_results": 1, "order_by": ["attributes.start_time DESC"]}
        if found := self._client.search_runs(everywhere, condition, **newest):
            return found[0]
        own = MlflowExperiment(self.uri, experiment_name(None, MODELS, self.uri))
        if (found_own := next(own.runs(f"tags.`{DIGEST}` = '{digest}'"), None)) is not None:
            return found_own
        run_id = own.create(f"victim {digest}", {"kind": "model", DIGEST: digest, **provenance()})
        own.terminate_run(run_id, "FINISHED")
        return self._client.get_run(run_id)
