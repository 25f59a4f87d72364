"""Trained networks in files: each form says of itself which network it is, and is read without a further word."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mwm.config.spec import decode
from mwm.config.trust import require_trust
from mwm.models.build import ArchitectureSpec, rebuild_model
from mwm.models.networks import PythonNetwork
from mwm.storage.mlflow_models import MLMODEL, load_mlflow_model
from mwm.storage.redaction import in_one_line, redacted_excerpt
from mwm.storage.store import NETWORK, OUTCOME, WEIGHTS, Store
from mwm.storage.tracking_uri import DEFAULT_TRACKING_URI

TORCHSCRIPT = (".ts", ".pt", ".pth")
"""How files of TorchScript end."""

ALLOWED = (
    "a .safetensors file, the folder of an entry of a store, a TorchScript file (.ts), the folder of an MLflow model"
)


class NetworkFile(NamedTuple):
    """What a weights file holds: which network the weights are of, and these by their names."""

    path: Path
    architecture: ArchitectureSpec
    weights: Mapping[str, Tensor]

    def rebuild(self, *, trust: bool = False) -> nn.Module:
        """The network, in evaluation mode.

        Raises ValueError, in one line, if the weights are another network's, or if a function of somebody's builds it
        and is not trusted.
        """
        try:
            return rebuild_model(self.architecture, self.weights, trust=trust)
        except (RuntimeError, ValueError) as error:
            if isinstance(self.architecture.model, PythonNetwork) and isinstance(error, ValueError):
                raise ValueError(f"{self.path}: {error}") from None
            fault = redacted_excerpt(str(error))
            raise ValueError(f"{self.path}: the weights are not those of the network it names ({fault})") from None


def load_model(path: str | Path, *, trust: bool = False) -> nn.Module:
    """A trained network, on the CPU and in evaluation mode: images (n c h w) in [0, 1] to logits (n classes).

    `path` is what `launch.py model` has written, but for ONNX, or an entry of a store on this machine. Nothing in a
    .safetensors file or an entry can run code, but where a function of somebody's builds the network; that, TorchScript
    and models of MLflow need `trust`. Raises ValueError, in one line, for what cannot be read.
    """
    place = Path(path)
    if place.is_dir() and (place / MLMODEL).is_file():
        require_trust(place, "mlflow", trust=trust)
        with in_one_line(f"{place}: cannot be loaded"):
            return load_mlflow_model(str(place), DEFAULT_TRACKING_URI, flavor="pytorch")  # type: ignore[no-any-return]
    if place.suffix.lower() in TORCHSCRIPT:
        require_trust(place, "script", trust=trust)
        with in_one_line(f"{place}: cannot be loaded"):
            return torch.jit.load(place, map_location="cpu").eval()  # type: ignore[no-any-return, no-untyped-call]
    if place.is_dir() or place.suffix.lower() == ".safetensors":
        return read_network(place).rebuild(trust=trust)
    raise ValueError(f"{place}: is not allowed; must be {ALLOWED}")


def read_network(path: Path) -> NetworkFile:
    """What is in a weights file, or in that of a store's entry; no code of it runs.

    A finished entry is used only as it was when it was finished. Raises ValueError, in one line, if the file is
    damaged, or was made by an older version.
    """
    place = path.absolute()
    if (place / OUTCOME).is_file() and (store := Store.of_folder(place)):
        store.weights(place.name)
    file = weights_file(place)
    with _opened(file) as content:
        weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - it is no mapping
    return NetworkFile(file, read_architecture(file), weights)


def weights_file(place: Path) -> Path:
    """The file of the weights in the folder of a store's entry, or the file itself."""
    return place / WEIGHTS if place.is_dir() else place


def read_architecture(file: Path) -> ArchitectureSpec:
    """Which network the weights in a file are of; raises ValueError as `read_network` does."""
    with _opened(file) as content:
        said = (content.metadata() or {}).get(NETWORK)
    if said is None:
        raise ValueError(f"{file}: does not say which network its weights are of; only later versions of mwm write it")
    try:
        architecture: ArchitectureSpec = decode(ArchitectureSpec, json.loads(said))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: what it says of its network is damaged ({redacted_excerpt(str(error))})") from None
    return architecture


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, "pt") as content:
            yield content
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file}: cannot be read as safetensors ({redacted_excerpt(str(error))})") from None
