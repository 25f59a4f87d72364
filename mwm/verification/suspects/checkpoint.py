"""Networks that mwm has trained, from their weights and what these say of themselves; nothing here can run code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mwm.config.spec import decode
from mwm.models.build import ArchitectureSpec, build_model
from mwm.storage.redaction import redacted_excerpt
from mwm.storage.store import NETWORK, OUTCOME, WEIGHTS, Store
from mwm.verification.suspects.identity import files_identity
from mwm.verification.suspects.in_process import InProcessSuspect, as_numpy_function


def open_checkpoint(address: str, *, shape: tuple[int, int, int], classes: int) -> InProcessSuspect:
    """The network in a store entry's folder, or in a weights file; ValueError in one line if there is none.

    A finished entry is used only as it was when it was finished.
    """
    path = Path(address).absolute()
    if (path / OUTCOME).is_file() and path.parent.name == path.name[:2]:
        Store(path.parent.parent).weights(path.name)
    file = path / WEIGHTS if path.is_dir() else path
    network = read(file, shape=shape, classes=classes)
    return InProcessSuspect(address, "checkpoint", files_identity(file), classes, as_numpy_function(network))


def read(path: Path, *, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Rebuild a network from its weights file, in evaluation mode.

    Raises ValueError, in one line, if the file is damaged or was made by an older version, or if the network is not
    one for images of `shape` (c, h, w) and `classes` classes.
    """
    try:
        with safe_open(path, "pt") as file:
            said = (file.metadata() or {}).get(NETWORK)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read as safetensors ({redacted_excerpt(str(error))})") from None
    if said is None:
        raise ValueError(f"{path}: does not say which network its weights are of; only later versions of mwm write it")
    plan = _blueprint(path, said)
    for what, held, asked in (("images", plan.shape, shape), ("classes", plan.classes, classes)):
        if held != asked:
            raise ValueError(f"{path}: is a network for {what} {held}, the key has {asked}")
    try:
        return _rebuilt(plan, weights)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path}: the weights are not those of the network it names ({redacted_excerpt(str(error))})"
        ) from None


def _blueprint(path: Path, said: str) -> ArchitectureSpec:
    try:
        plan: ArchitectureSpec = decode(ArchitectureSpec, json.loads(said))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: what it says of its network is damaged ({redacted_excerpt(str(error))})") from None
    return plan


def _rebuilt(plan: ArchitectureSpec, weights: dict[str, Tensor]) -> nn.Module:
    """The network without initial weights: a file that names a huge one takes no memory before it is refused."""
    unused, blank = torch.Generator(), [1.0] * plan.shape[0]
    with torch.device("meta"):
        network = build_model(
            plan.model, shape=plan.shape, classes=plan.classes, mean=blank, std=blank, generator=unused
        ).requires_grad_(False)
    kinds = {name: value.dtype for name, value in network.state_dict().items()}
    network.load_state_dict({name: value.to(kinds.get(name)) for name, value in weights.items()}, assign=True)
    return network.eval()
