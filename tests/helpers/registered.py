"""A network of PyTorch in MLflow's model registry."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from torch import nn

from mwm.storage.tracking_uri import artifact_location, set_mlflow_defaults


def registered(uri: str, network: nn.Module) -> str:
    """Log a network as MLflow's users do, registered as `mine`; the address of its run's model."""
    set_mlflow_defaults()
    before: Any = os.environ.get("MLFLOW_TRACKING_URI")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        mlflow.set_tracking_uri(uri)
        try:
            experiment = mlflow.create_experiment("mine", artifact_location(uri, "mine"))
            with mlflow.start_run(experiment_id=experiment) as started:
                mlflow.pytorch.log_model(
                    network,
                    name="net",
                    registered_model_name="mine",
                    pip_requirements=[],
                    serialization_format="pickle",
                )
        finally:
            mlflow.set_tracking_uri(before)
    return f"runs:/{started.info.run_id}/net"
