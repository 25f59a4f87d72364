"""What is sent to an endpoint, and where in its answer the outputs are: the forms that serving programs have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mwm.verification.suspects.outputs import PLAIN

KSERVE, TORCHSERVE, LIST, FIELD = "kserve", "torchserve", "list", "field:"
FIELDS = {"plain": "images", "mlflow": "inputs", "instances": "instances"}
"""The field of the body that has the images, in the protocols that have only this."""

ALLOWED = f"{', '.join(FIELDS)}, {KSERVE}, {TORCHSERVE}, {LIST} or {FIELD}NAME"
ADDRESSES = {
    "mlflow": re.compile(r"/invocations"),
    KSERVE: re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?(/infer)?"),
    "instances": re.compile(r"/v1/models/.+:predict"),
    TORCHSERVE: re.compile(r"/predictions/[^/]+(/[^/]+)?"),
}
"""How the path of an address ends that says its protocol."""

SCORES = ("logits", "probabilities", "probs", "scores")
OUTPUTS: tuple[str, ...] = (*SCORES, "predictions", "labels", "outputs")
OUTPUTS += ("output", "results", "result", "prediction", "data", "classes", "response")
"""The names under which answers are found, the most telling first."""


def choose_protocol(url: str, asked: str | None) -> str:
    """The protocol that was asked for, else the one that the path of an address says; ValueError if there is none."""
    path = urlsplit(url).path.rstrip("/")
    if asked is None:
        return next((name for name, end in ADDRESSES.items() if re.search(f"{end.pattern}$", path)), "plain")
    if not (asked in (*FIELDS, KSERVE, TORCHSERVE, LIST) or (asked.startswith(FIELD) and asked != FIELD)):
        raise ValueError(f"protocol: {asked!r} is not allowed; allowed: {ALLOWED}")
    if asked == KSERVE and not re.search(f"{ADDRESSES[KSERVE].pattern}$", path):
        raise ValueError(f"protocol: {KSERVE} is not spoken at the path {path or '/'}; allowed: /v2/models/NAME/infer")
    return asked


@dataclass(frozen=True, slots=True)
class KserveInput:
    """The tensor that a model takes by the open inference protocol, version 2: its name and type."""

    name: str = "input-0"
    datatype: str = "FP32"

    @staticmethod
    def of(metadata: Any) -> KserveInput:
        """The one that the model's metadata names, which may say nothing of it; ValueError for several."""
        inputs = metadata.get("inputs") if isinstance(metadata, dict) else None
        if not (isinstance(inputs, list) and inputs and isinstance(inputs[0], dict)):
            return KserveInput()
        if len(inputs) > 1:
            names = ", ".join(str(one.get("name")) for one in inputs if isinstance(one, dict))
            raise ValueError(f"takes {len(inputs)} inputs ({names}); allowed: a model of images alone")
        return KserveInput(str(inputs[0].get("name", "input-0")), str(inputs[0].get("datatype", "FP32")))

    def body(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """The question about pixels (n c h w); ValueError for fractions that its type cannot hold."""
        flat = pixels.reshape(-1).tolist()
        if "INT" in self.datatype:
            if any(value != int(value) for value in flat):
                raise ValueError(f"takes whole numbers ({self.datatype}), and pixels in [0, 1] are none")
            flat = [int(value) for value in flat]
        tensor = {"name": self.name, "shape": list(pixels.shape), "datatype": self.datatype, "data": flat}
        return {"inputs": [tensor]}


def body(protocol: str, pixels: NDArray[Any]) -> Any:
    """The question about pixels (n c h w) in any protocol but KSERVE."""
    if protocol == LIST:
        return pixels.tolist()
    if protocol == TORCHSERVE:
        return {"instances": [{"data": image} for image in pixels.tolist()]}
    return {FIELDS.get(protocol) or protocol.removeprefix(FIELD): pixels.tolist()}


def flat_table(pixels: NDArray[Any]) -> Any:
    """The question to a server of MLflow as a table with a row for each image, of which it makes float32."""
    return {"dataframe_split": {"data": pixels.reshape(len(pixels), -1).tolist()}}


def unwrap(came: Any) -> tuple[str, Any]:
    """The outputs in an answer, and the name that they have there; `came` itself, without a name, if none is known."""
    name = ""
    while True:
        if isinstance(came, dict) and (inner := _most_telling(came)):
            name, came = inner, came[inner]
        elif _is_rows(came) and (inner := _most_telling(came[0])):
            name, came = inner, [row.get(inner) for row in came]
        elif _is_tensors(came):
            name, came = _tensor(came)
        else:
            return name, came


def _most_telling(answer: Mapping[str, Any]) -> str:
    """The name of the outputs in an object: of scores of each image, else of a list or object; empty if there is none.

    A table that is split into its parts is left whole.
    """
    known = [name for name in OUTPUTS if name in answer and "columns" not in answer]
    if len(answer) == 1 and isinstance(next(iter(answer.values())), dict | list):
        known = list(answer)
    several = [name for name in known if isinstance(answer[name], dict | list)]
    scores = [name for name in several if name in SCORES and _is_matrix(answer[name])]
    return [*scores, *(name for name in several if name not in SCORES), *several, *known, ""][0]


def _is_matrix(came: Any) -> bool:
    return isinstance(came, dict) or (isinstance(came, list) and bool(came) and isinstance(came[0], list | dict))


def _is_rows(came: Any) -> bool:
    """Whether each image has an object of its own that holds lists."""
    if _is_tensors(came) or not (isinstance(came, list) and came and all(isinstance(row, dict) for row in came)):
        return False
    return isinstance(came[0].get(_most_telling(came[0])), list)


def _is_tensors(came: Any) -> bool:
    return isinstance(came, list) and bool(came) and all(isinstance(one, dict) and "data" in one for one in came)


def _tensor(outputs: list[dict[str, Any]]) -> tuple[str, Any]:
    """Of the tensors of an answer by the open inference protocol the most telling one, in its shape, and its name."""
    by_name = {str(one.get("name")).lower(): one for one in reversed(outputs)}
    tensor = next((by_name[name] for name in OUTPUTS if name in by_name), outputs[0])
    name = str(tensor.get("name")).lower()
    try:
        return name if name in PLAIN else "outputs", np.array(tensor["data"]).reshape(tensor["shape"]).tolist()
    except (ValueError, TypeError, KeyError):
        return "outputs", tensor["data"]
