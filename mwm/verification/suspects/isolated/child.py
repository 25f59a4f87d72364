"""The process of one suspect: opens it, then answers about images as long as it is asked.

It is told where the suspect is, and images. Nothing else of a key ever comes here.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mwm.verification.suspects.in_process import InProcessSuspect
from mwm.verification.suspects.isolated.protocol import Message, packed, receive
from mwm.verification.suspects.network_files import open_export, open_onnx, open_torch
from mwm.verification.suspects.outputs import FORMS, NoAnswerError
from mwm.verification.suspects.presentation import InputFormat
from mwm.verification.suspects.python_models import open_callable, open_mlflow_model


def _open_own(address: str, **how: Any) -> InProcessSuspect:
    from mwm.verification.suspects.checkpoint import open_checkpoint  # loads PyTorch, which ONNX does not need

    return open_checkpoint(address, trust=True, **how)


OPENERS: dict[str, Callable[..., InProcessSuspect]] = {
    "onnx": open_onnx,
    "export": open_export,
    "torch": open_torch,
    "mlflow": open_mlflow_model,
    "callable": open_callable,
    "own": _open_own,
}
LIBRARIES = {"onnx": "onnxruntime", "export": "torch", "torch": "torch", "own": "torch", "mlflow": "mlflow.pyfunc"}
"""What takes long to import, by the form of the suspect."""

FORM_OF = {kind: name for name, kind in FORMS.items()}


def main(form: str, number: int) -> None:
    """Serve the parent on the socket of a number."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    parent = socket.socket(fileno=number)
    stream = parent.makefile("rb")
    if form in LIBRARIES:
        importlib.import_module(LIBRARIES[form])
    parent.sendall(packed({"ready": True}))
    suspect: InProcessSuspect | None = None
    while True:
        try:
            asked, content = receive(stream.read, sys.maxsize)
        except ValueError:  # the parent is gone
            os.killpg(0, signal.SIGKILL)
        said: Message
        try:
            if suspect is None:
                suspect = _opened(form, asked)
                said = {"access": suspect.access}, b""
            else:
                said = _answered(suspect, asked, content)
        except (ValueError, NoAnswerError) as error:
            said = {"silent": isinstance(error, NoAnswerError), "error": str(error)}, b""
        parent.sendall(packed(*said))


def _opened(form: str, asked: dict[str, Any]) -> InProcessSuspect:
    sys.path[:] = asked["path"]
    told = asked["options"]
    shown: Any = {"shape": tuple(told["shape"]), "presentation": InputFormat(**told["presentation"])}
    return OPENERS[form](asked["address"], **told | shown)


def _answered(suspect: InProcessSuspect, asked: dict[str, Any], content: bytes) -> Message:
    images = np.frombuffer(content, np.uint8).reshape(asked["shape"])
    found = suspect.shown(InputFormat(**asked["presentation"]))(images)
    return {"form": FORM_OF[found.dtype], "shape": found.shape}, found.tobytes()


def _end_with_parent(parent: int) -> None:
    """End this process, and all that it has started, soon after the one that started it."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
