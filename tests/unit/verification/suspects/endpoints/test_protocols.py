"""What is sent by each protocol, which one an address stands for, and where outputs are found in an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mwm.verification.suspects import NoAnswerError
from mwm.verification.suspects.endpoints.protocols import KserveInput, choose_protocol, unwrap
from tests.helpers.http import Reply, answering
from tests.helpers.suspected import IMAGES, labels, network, opened, scores

SCORES = scores(network())
LABELS = SCORES.argmax(1)
ROWS = SCORES.tolist()

ADDRESSES = {
    "http://h/": "plain",
    "http://h/predict": "plain",
    "http://h/invocations": "mlflow",
    "http://h/serving-endpoints/a/invocations/": "mlflow",
    "http://h/v2/models/net/infer": "kserve",
    "http://h/v2/models/net/versions/3/infer": "kserve",
    "http://h/proxy/v2/models/net": "kserve",
    "http://h/v1/models/net:predict": "instances",
    "http://h/v1/models/net/versions/2:predict?a=b": "instances",
    "http://h/v2/repository": "plain",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_says_its_protocol(address: str) -> None:
    assert choose_protocol(address, None) == ADDRESSES[address]
    assert choose_protocol(address, "field:x") == "field:x"


@pytest.mark.parametrize("asked", ["", "v2", "field:", "Plain", "field"])
def test_a_protocol_that_is_none(asked: str) -> None:
    with pytest.raises(ValueError, match=r"^protocol: '.*' is not allowed; allowed: plain, mlflow, instances, kserve,"):
        opened("http://127.0.0.1:1/", protocol=asked)


def test_kserve_needs_the_path_of_a_model() -> None:
    with pytest.raises(ValueError, match="kserve is not spoken at the path /predict; allowed: /v2/models/NAME/infer"):
        opened("http://127.0.0.1:1/predict", protocol="kserve")


@pytest.mark.parametrize(
    ("protocol", "key"),
    [("plain", "images"), ("mlflow", "inputs"), ("instances", "instances"), ("field:input_data", "input_data")],
)
def test_the_images_stand_in_the_field_of_the_protocol(protocol: str, key: str) -> None:
    with answering(Reply({"predictions": ROWS})) as server:
        suspect = opened(server.uri, protocol=protocol)
        assert np.array_equal(suspect(IMAGES), SCORES)
    assert list(server.asked[0].body) == [key]
    assert np.array_equal(server.asked[0].images.astype(np.float32), IMAGES / np.float32(255))
    assert suspect.identity != opened(server.uri).identity, "it is asked something else"


def test_a_bare_list() -> None:
    with answering(Reply(ROWS)) as server:
        assert np.array_equal(opened(server.uri, protocol="list")(IMAGES), SCORES)
    assert isinstance(server.asked[0].body, list)


def tensor(name: str, values: Any, datatype: str = "FP32") -> dict[str, Any]:
    """An output by the open inference protocol."""
    array = np.array(values)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.reshape(-1).tolist()}


ANSWERS: dict[str, Any] = {
    "bare": ROWS,
    "bare labels": LABELS.tolist(),
    "predictions": {"predictions": ROWS},
    "result": {"result": LABELS.tolist()},
    "results": {"results": {"scores": ROWS}},
    "probs": {"probs": ROWS, "class_names": list("abcd")},
    "probabilities and classes": {"probabilities": ROWS, "classes": list("abcd")},
    "predictions and names": {"predictions": ROWS, "labels": list("abcd")},
    "data": {"status": "ok", "data": {"output": ROWS}},
    "unknown names": {"answer": {"of_the_model": ROWS}},
    "rows": {"predictions": [{"scores": row, "label": 1} for row in ROWS]},
    "rows alone": [{"label": label, "probabilities": row} for label, row in zip(LABELS.tolist(), ROWS, strict=True)],
    "TensorFlow": {"outputs": {"logits": ROWS, "classes": [0] * len(ROWS)}},
    "tensors": {"model_name": "net", "outputs": [tensor("output-0", ROWS)]},
    "nested tensors": {"outputs": [{"name": "x", "shape": list(SCORES.shape), "datatype": "FP32", "data": ROWS}]},
    "labels in tensors": {"outputs": [tensor("predict", LABELS.tolist(), "INT64")]},
    "a column in tensors": {"outputs": [tensor("predict", LABELS[:, None].tolist(), "INT64")]},
    "several tensors": {"outputs": [tensor("labels", [0] * len(ROWS), "INT64"), tensor("logits", ROWS)]},
    "no error": {"error": None, "detail": "", "predictions": ROWS},
}


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.parametrize("path", ["/", "/invocations", "/v1/models/net:predict"])
def test_outputs_are_found_in_every_envelope(case: str, path: str) -> None:
    with answering(Reply(ANSWERS[case])) as server:
        assert np.array_equal(labels(opened(server.uri + path)), LABELS)


@pytest.mark.parametrize("shape", [[3], [23, 9], "x", None])
def test_a_tensor_whose_shape_is_wrong_is_taken_as_it_is(shape: Any) -> None:
    assert unwrap({"outputs": [{"name": "a", "shape": shape, "data": [1, 2]}]}) == ("outputs", [1, 2])


METADATA = {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 1, 6, 6]}]}


@pytest.mark.parametrize(
    ("metadata", "name"),
    [(Reply(METADATA), "pixels"), (Reply({"inputs": []}), "input-0"), (Reply(status=404), "input-0")],
)
@pytest.mark.parametrize("path", ["/v2/models/net/infer", "/v2/models/net"])
def test_the_open_inference_protocol(metadata: Reply, name: str, path: str) -> None:
    with answering(metadata, Reply({"outputs": [tensor("logits", ROWS)]})) as server:
        suspect = opened(server.uri + path)
        assert np.array_equal(suspect(IMAGES), SCORES)
        assert np.array_equal(suspect(IMAGES), SCORES)
    assert [asked.path for asked in server.asked] == ["/v2/models/net", *["/v2/models/net/infer"] * 2]
    (sent,) = server.asked[1].body["inputs"]
    assert (sent["name"], sent["datatype"], sent["shape"]) == (name, "FP32", list(IMAGES.shape))
    assert np.array_equal(np.array(sent["data"], np.float32), (IMAGES / np.float32(255)).reshape(-1))


BYTES = {"inputs": [{"name": "pixels", "datatype": "UINT8"}]}


def test_a_model_of_whole_numbers_is_asked_in_their_range() -> None:
    from mwm.verification.suspects.presentation import InputFormat

    with answering(Reply(BYTES), Reply({"outputs": [tensor("logits", ROWS)]})) as server:
        address = server.uri + "/v2/models/net/infer"
        assert np.array_equal(opened(address, presentation=InputFormat("0,255"))(IMAGES), SCORES)
    assert server.asked[1].body["inputs"][0]["data"] == IMAGES.reshape(-1).tolist()
    with answering(Reply(BYTES)) as server, pytest.raises(NoAnswerError, match=r"takes whole numbers \(UINT8\), and "):
        opened(server.uri + "/v2/models/net/infer")(IMAGES)


def test_a_model_of_several_inputs() -> None:
    both = {"inputs": [{"name": "image"}, {"name": "mask"}]}
    with (
        answering(Reply(both)) as server,
        pytest.raises(NoAnswerError, match=r"takes 2 inputs \(image, mask\); "),
    ):
        opened(server.uri + "/v2/models/net/infer")(IMAGES)
    assert KserveInput.of("nothing") == KserveInput()
