"""The worked examples of docs/verify/endpoints.md, each run by its own server."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mwm.data.images import to_float
from mwm.verification.suspects import NoAnswerError
from tests.helpers.servers import free_port
from tests.helpers.serving import ROOT, asgi, serving
from tests.helpers.suspected import IMAGES, SHAPE, opened

PAGE = (ROOT / "docs/verify/endpoints.md").read_text()
PIXELS = to_float(torch.from_numpy(IMAGES)).numpy()
FIRST = PIXELS.reshape(len(PIXELS), -1)[:, :4]
"""What the examples without a network answer, of which 4 scores in place of 10 are taken."""


def example(info: str) -> str:
    """The code of the page that is marked so."""
    (found,) = re.findall(rf"```{info}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def program(name: str) -> str:
    """A server's command; skips where it is not installed."""
    if (found := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_fastapi() -> None:
    made: dict[str, Any] = {}
    exec(example("python").replace("10", "4"), made)
    with torch.inference_mode():
        right = made["network"](torch.from_numpy(PIXELS)).numpy()
    with asgi(made["app"]) as address:
        assert np.allclose(opened(f"{address}/predict")(IMAGES), right, atol=1e-5)
        with pytest.raises(NoAnswerError, match=r"refuses with 404 Not Found$"):
            opened(f"{address}/other")(IMAGES)


def test_a_model_of_another_field_says_which() -> None:
    from fastapi import Body, FastAPI

    app = FastAPI()

    @app.post("/classify")
    def classify(pixels: list[Any] = Body(embed=True)) -> dict[str, Any]:  # noqa: B008 - FastAPI's way
        return {"result": {"probs": np.array(pixels).reshape(len(pixels), -1)[:, :4].tolist()}}

    with asgi(app) as address:
        with pytest.raises(NoAnswerError, match=r"refuses with 422 .*: body.pixels: Field required$"):
            opened(f"{address}/classify")(IMAGES)
        assert np.allclose(opened(f"{address}/classify", protocol="field:pixels")(IMAGES), FIRST)


def test_torchserve() -> None:
    """A server written from TorchServe's envelope `json` and its handler of pictures."""
    from fastapi import FastAPI, Response

    app = FastAPI()

    @app.post("/predictions/net")
    def predict(body: dict[str, list[Any]]) -> Response:
        images = torch.stack([torch.FloatTensor(row["data"]) for row in body["instances"]])
        assert images.shape == (len(IMAGES), *SHAPE)
        return Response(json.dumps({"predictions": images.flatten(1)[:, :4].tolist()}))

    with asgi(app) as address:
        assert np.allclose(opened(f"{address}/predictions/net")(IMAGES), FIRST)


def test_the_open_inference_protocol() -> None:
    """A server written from the protocol's document."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/v2/models/net")
    def metadata() -> dict[str, Any]:
        return {"name": "net", "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, *SHAPE]}]}

    @app.post("/v2/models/net/infer")
    def infer(body: dict[str, Any]) -> dict[str, Any]:
        (given,) = body["inputs"]
        assert (given["name"], given["datatype"]) == ("pixels", "FP32")
        said = np.array(given["data"]).reshape(given["shape"]).reshape(len(IMAGES), -1)[:, :4]
        output = {"name": "scores", "shape": list(said.shape), "datatype": "FP64", "data": said.reshape(-1).tolist()}
        return {"model_name": "net", "outputs": [output]}

    with asgi(app) as address:
        assert np.allclose(opened(f"{address}/v2/models/net/infer")(IMAGES), FIRST)


@pytest.mark.slow
def test_bentoml(tmp_path: Path) -> None:
    bentoml, port = program("bentoml"), free_port()
    (tmp_path / "service.py").write_text(example("python bentoml").replace("10", "4"))
    command = [bentoml, "serve", "service:Net", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    with serving(command, tmp_path, f"http://127.0.0.1:{port}/readyz", **quiet):
        assert np.allclose(opened(f"http://127.0.0.1:{port}/predict")(IMAGES), FIRST)
        with pytest.raises(NoAnswerError, match="refuses with 400 Bad Request: images: Field required"):
            opened(f"http://127.0.0.1:{port}/predict", protocol="field:x")(IMAGES)


@pytest.mark.slow
def test_mlserver(tmp_path: Path) -> None:
    mlserver, port = program("mlserver"), free_port()
    (tmp_path / "model.py").write_text(example("python mlserver").replace("10", "4"))
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, **ports}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "model-settings.json").write_text(json.dumps({"name": "net", "implementation": "model.Net"}))
    with serving([mlserver, "start", "."], tmp_path, f"http://127.0.0.1:{port}/v2/health/ready"):
        assert np.allclose(opened(f"http://127.0.0.1:{port}/v2/models/net/infer")(IMAGES), FIRST)
        with pytest.raises(NoAnswerError, match="refuses with 404 Not Found: Model other not found"):
            opened(f"http://127.0.0.1:{port}/v2/models/other/infer")(IMAGES)
