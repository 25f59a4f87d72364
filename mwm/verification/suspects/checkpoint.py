"""Networks that mwm has trained, from their weights and what these say of themselves.

No code of anybody's runs, but of a function that builds a network: such ones are opened in a process of their own.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from torch import nn

from mwm.models.files import NetworkFile, read_architecture, read_network, weights_file
from mwm.models.networks import PythonNetwork
from mwm.verification.suspects.identity import files_identity
from mwm.verification.suspects.in_process import InProcessSuspect, as_numpy_function
from mwm.verification.suspects.presentation import InputFormat


def open_checkpoint(
    address: str, *, shape: tuple[int, int, int], classes: int, presentation: InputFormat, trust: bool = False
) -> InProcessSuspect:
    """The network in a store entry's folder, or in a weights file; ValueError in one line if there is none.

    A finished entry is used only as it was when it was finished. A function of somebody's that builds the network is
    called with `trust` alone.
    """
    found = read_network(Path(address))
    ask = as_numpy_function(_checked(found, shape=shape, classes=classes).rebuild(trust=trust))
    return InProcessSuspect(address, "checkpoint", files_identity(found.path), classes, ask, presentation=presentation)


def is_built_by_a_function(address: str) -> bool:
    """Whether a function of its maker's builds the network at an address; not if there is none that can be read."""
    with suppress(ValueError):
        return isinstance(read_architecture(weights_file(Path(address))).model, PythonNetwork)
    return False


def read(path: Path, *, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Rebuild a network from its weights file, in evaluation mode.

    Raises ValueError, in one line, if the file is damaged or was made by an older version, or if the network is not
    one for images of `shape` (c, h, w) and `classes` classes.
    """
    return _checked(read_network(path), shape=shape, classes=classes).rebuild()


def _checked(found: NetworkFile, *, shape: tuple[int, int, int], classes: int) -> NetworkFile:
    """What a weights file holds, if it is a network for such images and classes."""
    held = found.architecture
    for what, own, asked in (("images", held.shape, shape), ("classes", held.classes, classes)):
        if own != asked:
            raise ValueError(f"{found.path}: is a network for {what} {own}, the key has {asked}")
    return found
