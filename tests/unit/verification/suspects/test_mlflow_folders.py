"""Models of MLflow in folders, and those that take one number of images at a time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.verification.suspects import Suspect, open_suspect
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE

EIGHT = (8, *SHAPE)
BRIGHTEST = IMAGES.reshape(len(IMAGES), -1)[:, :CLASSES].argmax(1)


def saved(folder: Path, *, images: Any, name: str | None = None, example: Any = None) -> Path:
    """Save a model that takes eight images at a time, with a signature for `images`, or with an example alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.pyfunc.model import PythonModel
        from mlflow.types import Schema, TensorSpec

        class Eight(PythonModel):
            def predict(self, model_input: Any) -> NDArray[Any]:  # type: ignore[override]
                pixels = np.asarray(model_input["image"] if isinstance(model_input, dict) else model_input)
                return pixels.reshape(8, -1)[:, :4]

        told: dict[str, Any] = {"input_example": example}
        if images:
            told = {"signature": ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float32), images, name)]))}
        mlflow.pyfunc.save_model(folder, python_model=Eight(), pip_requirements=[], **told)
    return folder


def opened(folder: Path, shape: tuple[int, int, int] = SHAPE) -> Suspect:
    return open_suspect(folder, shape=shape, classes=CLASSES, trust=True)


SAID: dict[str, dict[str, Any]] = {
    "signature": {"images": EIGHT},
    "named": {"images": EIGHT, "name": "image"},
    "example": {"images": None, "example": np.zeros(EIGHT, np.float32)},
}


@pytest.mark.slow
@pytest.mark.parametrize("said", SAID)
def test_a_folder_with_a_model_of_a_fixed_batch_size_answers(said: str, tmp_path: Path) -> None:
    suspect = opened(saved(tmp_path / "model", **SAID[said]))
    assert np.array_equal(suspect(IMAGES).argmax(1), BRIGHTEST)
    assert (suspect.name, suspect.access) == (str(tmp_path / "model"), "mlflow")


@pytest.mark.slow
def test_a_model_that_does_not_say_how_many_or_takes_others_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", images=(-1, *SHAPE))
    with pytest.raises(ValueError, match=r"model: failed on images of shape \(1, 1, 6, 6\)"):
        opened(folder)
    with pytest.raises(ValueError, match=r"is a network for images \(n, 1, 6, 6\), the key has \(n, 3, 6, 6\)"):
        opened(folder, (3, 6, 6))
    with pytest.raises(ValueError, match=r"a model of MLflow is Python code and pickles.*--trust"):
        open_suspect(folder, shape=SHAPE, classes=CLASSES)
