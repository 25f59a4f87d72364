"""Networks in files of their own: ONNX, torch.export, TorchScript and pickled modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mwm.storage.redaction import in_one_line
from mwm.verification.suspects.in_process import (
    InProcessSuspect,
    Shape,
    as_numpy_function,
    only_batch,
    probed,
)
from mwm.verification.suspects.presentation import InputFormat

if TYPE_CHECKING:
    import torch

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
    with in_one_line(f"{address}: cannot be read as ONNX"):
        session = onnxruntime.InferenceSession(
            path, options, ["CPUExecutionProvider"], read_config_from_model=0, enable_fallback=0
        )
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in FLOATS:
        taken = ", ".join(f"{one.name} {one.type}" for one in inputs)
        raise ValueError(f"{address}: takes {taken or 'nothing'}; allowed: one input of floats")
    name, kind, output = inputs[0].name, FLOATS[inputs[0].type], session.get_outputs()[0].name
    batch = only_batch(address, inputs[0].shape, presentation.shape(shape))

    def ask(pixels: NDArray[np.float32]) -> Any:
        return session.run([output], {name: pixels.astype(kind)})[0]

    return probed(InProcessSuspect(address, "onnx", "", classes, ask, batch, presentation), shape)


def open_export(address: str, *, shape: Shape, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """A network that torch.export has saved."""
    import torch

    with in_one_line(f"{address}: cannot be read as torch.export"):
        program = torch.export.load(address)
        network, named = program.module(), program.graph_signature.user_inputs
        inputs = [list(node.meta["val"].shape) for node in program.graph.nodes if node.name in named]
    if len(inputs) != 1:
        raise ValueError(f"{address}: takes {len(inputs)} inputs; allowed: one of images")
    batch = only_batch(address, inputs[0], presentation.shape(shape))
    return probed(
        InProcessSuspect(address, "export", "", classes, as_numpy_function(network), batch, presentation), shape
    )


def open_torch(address: str, *, shape: Shape, classes: int, presentation: InputFormat) -> InProcessSuspect:
    """A network in TorchScript, or a pickled one."""
    import torch
    from torch import nn

    with in_one_line(f"{address}: cannot be read as TorchScript or as a pickled network"):
        found: Any = torch.load(address, map_location="cpu", weights_only=False)
    if not isinstance(found, nn.Module):
        raise ValueError(f"{address}: holds a {type(found).__name__}; allowed: a whole network, not its weights alone")
    access = "torchscript" if isinstance(found, torch.jit.ScriptModule) else "module"
    ask = as_numpy_function(found.eval())
    suspect = InProcessSuspect(address, access, "", classes, ask, presentation=presentation)
    return probed(suspect, shape, _traced_batch_sizes(found) if isinstance(found, torch.jit.ScriptModule) else ())


def _traced_batch_sizes(script: torch.jit.ScriptModule) -> list[int]:
    """What may be the batch size for which a network was traced: then it is one of the constants in its graph."""
    constants = " ".join(re.findall(r"value=\[?([-\d, ]+)\]", str(script.inlined_graph)))
    return sorted({int(number) for number in re.findall(r"\d+", constants) if 1 < int(number) <= LARGEST})
