"""Weights that trials start from: read once, from the file, the entry of the store or the model that a record names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mwm.config.spec import DIGEST
from mwm.config.trust import require_trust
from mwm.models.start import Start
from mwm.storage.mlflow_models import ADDRESSES, load_mlflow_model
from mwm.storage.redaction import in_one_line, redacted_excerpt
from mwm.storage.store import Store
from mwm.storage.tracking_uri import resolve_tracking_uri

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which names checkpoints of other programmes hold the weights."""

ALLOWED = "a .safetensors, .pt, .pth, .bin or .ckpt file, 16 hexadecimal digits of this store, models:/... or runs:/..."


def read_start(place: str, path: str, *, store: Store | None, tracking_uri: str | None, trust: bool) -> Start:
    """The weights at a `place`, which `path` in a file names; ValueError, in one line, for what cannot be read.

    Files and entries of a store are read as tensors, without running code. A model of MLflow is somebody's code, and
    is loaded with `trust` alone; None for `tracking_uri` is where MLflow records otherwise.
    """
    try:
        weights = _weights(place, path, store=store, tracking_uri=tracking_uri, trust=trust)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: {place} cannot be read ({redacted_excerpt(str(error))})") from None
    others = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if others or not weights:
        held = f"{others[0]!r} in it is a {type(weights[others[0]]).__name__}" if others else "it holds no weights"
        raise ValueError(f"{path}: {place} is not allowed: {held}; allowed: weights by their names (a state dict)")
    plain = {str(name): value.detach().cpu().contiguous() for name, value in weights.items()}
    return Start(plain, _digest(plain))


def _weights(place: str, path: str, *, store: Store | None, tracking_uri: str | None, trust: bool) -> Mapping[str, Any]:
    if place.startswith(ADDRESSES):
        require_trust(f"{path}: {place}", "mlflow", trust=trust)
        return _mlflow_weights(place, path, resolve_tracking_uri(tracking_uri))
    if Path(place).suffix == ".safetensors":
        return load_file(place)
    if Path(place).suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return _unwrapped(torch.load(place, map_location="cpu", weights_only=True))
    if re.fullmatch(DIGEST, place) and store is not None:
        if store.outcome(place) is None:
            raise ValueError(f"{path}: {place} is no finished trial of this store")
        return store.weights(place)
    raise ValueError(f"{path}: {place!r} is not allowed: must be {ALLOWED}")


def _unwrapped(found: Any) -> Mapping[str, Any]:
    """The weights in what a file holds: all of it, or a part with one of the usual names."""
    while isinstance(found, Mapping) and (inner := [found[name] for name in WRAPPERS if name in found]):
        found = inner[0]
    return found if isinstance(found, Mapping) else {"": found}


def _mlflow_weights(address: str, path: str, uri: str) -> Mapping[str, Any]:
    with in_one_line(f"{path}: {address} cannot be loaded as a model of PyTorch"):
        model = load_mlflow_model(address, uri, flavor="pytorch")
    assert isinstance(model, nn.Module), "MLflow's flavour for PyTorch holds modules alone"
    return model.state_dict()


def _digest(weights: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        content.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        content.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()[:16]
