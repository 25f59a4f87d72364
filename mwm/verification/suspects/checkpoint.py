"""Networks that mwm has trained, from their weights and what these say of themselves; nothing here can run code."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from mwm.config.spec import decode
from mwm.models.build import ArchitectureSpec, rebuild_model
from mwm.storage.redaction import redacted_excerpt
from mwm.storage.store import NETWORK, OUTCOME, WEIGHTS, Store
from mwm.verification.suspects.identity import files_identity
from mwm.verification.suspects.in_process import InProcessSuspect, as_numpy_function
from mwm.verification.suspects.presentation import InputFormat


def open_checkpoint(
    address: str, *, shape: tuple[int, int, int], classes: int, presentation: InputFormat
) -> InProcessSuspect:
    """The network in a store entry's folder, or in a weights file; ValueError in one line if there is none.

    A finished entry is used only as it was when it was finished.
    """
    path = Path(address).absolute()
    if (path / OUTCOME).is_file() and (store := Store.of_folder(path)):
        store.weights(path.name)
    file = path / WEIGHTS if path.is_dir() else path
    network = read(file, shape=shape, classes=classes)
    ask = as_numpy_function(network)
    return InProcessSuspect(address, "checkpoint", files_identity(file), classes, ask, presentation=presentation)


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
    architecture = _architecture(path, said)
    for what, held, asked in (("images", architecture.shape, shape), ("classes", architecture.classes, classes)):
        if held != asked:
            raise ValueError(f"{path}: is a network for {what} {held}, the key has {asked}")
    try:
        return rebuild_model(architecture, weights)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path}: the weights are not those of the network it names ({redacted_excerpt(str(error))})"
        ) from None


def _architecture(path: Path, said: str) -> ArchitectureSpec:
    try:
        architecture: ArchitectureSpec = decode(ArchitectureSpec, json.loads(said))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: what it says of its network is damaged ({redacted_excerpt(str(error))})") from None
    return architecture
