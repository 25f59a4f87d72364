"""Networks in files of their own: ONNX, torch.export, TorchScript and pickled modules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mwm.verification.suspects.identity import files_identity, onnx_identity
from mwm.verification.suspects.in_process import InProcessSuspect, as_numpy_function, as_open_error
from mwm.verification.suspects.outputs import NoAnswerError
from mwm.verification.suspects.presentation import InputFormat

Shape = tuple[int, int, int]
LARGEST = 1024
"""Images that a network of one batch size may take at a time without saying so."""

FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


def open_onnx(address: str, *, shape: Shape, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """A network in ONNX: one input of images, of which the first output counts.

    onnxruntime runs its own operators only, since no library is registered with it; it reads weights beside the file
    from the file's own folder alone, links followed before it looks; and options in the file are passed over.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    path = str(Path(address).absolute())
    with as_open_error(f"{address}: cannot be read as ONNX"):
        session = onnxruntime.InferenceSession(
            path, options, ["CPUExecutionProvider"], read_config_from_model=0, enable_fallback=0
        )
        identity = onnx_identity(Path(path))
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in FLOATS:
        taken = ", ".join(f"{one.name} {one.type}" for one in inputs)
        raise ValueError(f"{address}: takes {taken or 'nothing'}; allowed: one input of floats")
    name, kind, output = inputs[0].name, FLOATS[inputs[0].type], session.get_outputs()[0].name
    batch = _batch(address, inputs[0].shape, presentation.shape(shape))

    def ask(pixels: NDArray[np.float32]) -> Any:
        return session.run([output], {name: pixels.astype(kind)})[0]

    return _probed(InProcessSuspect(address, "onnx", identity, classes, ask, batch, presentation), shape)


def open_export(address: str, *, shape: Shape, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """A network that torch.export has saved."""
    with as_open_error(f"{address}: cannot be read as torch.export"):
        program = torch.export.load(address)
        network, named = program.module(), program.graph_signature.user_inputs
        inputs = [list(node.meta["val"].shape) for node in program.graph.nodes if node.name in named]
    if len(inputs) != 1:
        raise ValueError(f"{address}: takes {len(inputs)} inputs; allowed: one of images")
    batch = _batch(address, inputs[0], presentation.shape(shape))
    identity, ask = files_identity(Path(address)), as_numpy_function(network)
    return _probed(InProcessSuspect(address, "export", identity, classes, ask, batch, presentation), shape)


def open_torch(address: str, *, shape: Shape, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """A network in TorchScript, or a pickled one."""
    with as_open_error(f"{address}: cannot be read as TorchScript or as a pickled network"):
        found: Any = torch.load(address, map_location="cpu", weights_only=False)
    if not isinstance(found, nn.Module):
        raise ValueError(f"{address}: holds a {type(found).__name__}; allowed: a whole network, not its weights alone")
    access = "torchscript" if isinstance(found, torch.jit.ScriptModule) else "module"
    identity, ask = files_identity(Path(address)), as_numpy_function(found.eval())
    suspect = InProcessSuspect(address, access, identity, classes, ask, presentation=presentation)
    return _probed(suspect, shape, _traced_batch_sizes(found) if isinstance(found, torch.jit.ScriptModule) else ())


def _traced_batch_sizes(script: torch.jit.ScriptModule) -> list[int]:
    """What may be the batch size for which a network was traced: then it is one of the constants in its graph."""
    constants = " ".join(re.findall(r"value=\[?([-\d, ]+)\]", str(script.inlined_graph)))
    return sorted({int(number) for number in re.findall(r"\d+", constants) if 1 < int(number) <= LARGEST})


def _batch(address: str, given: list[Any], shape: Shape) -> int | None:
    """The one batch size that a network takes, if there is only one; ValueError if it takes other images."""
    sizes = [size if isinstance(size, int) else None for size in given]
    if len(sizes) not in (0, 4) or any(size not in (None, side) for size, side in zip(sizes[1:], shape, strict=False)):
        shown = ", ".join("n" if size is None else str(size) for size in sizes)
        raise ValueError(f"{address}: is a network for images ({shown}), the key has (n, {', '.join(map(str, shape))})")
    return sizes[0] if sizes else None


def _probed(suspect: InProcessSuspect, shape: Shape, sizes: Sequence[int] = ()) -> InProcessSuspect:
    """A suspect that has answered to black images: what it cannot take shows before it is asked anything.

    One that takes not any number of images, and does not say which, may take one at a time, or as many as in `sizes`.
    """
    others = () if suspect.batch else (1, *sizes)
    faults: list[ValueError | NoAnswerError] = []
    for tried in (suspect, *(replace(suspect, batch=size) for size in others)):
        try:
            for count in (1, 2):
                tried(np.zeros((count, *shape), np.uint8))
        except (ValueError, NoAnswerError) as error:
            faults.append(error)
        else:
            return tried
    raise ValueError(str(faults[0])) from faults[0]
