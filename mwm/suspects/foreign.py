"""Suspects that are somebody's Python: callables, and models of MLflow. To open one runs its code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from mwm.suspects.answers import told
from mwm.suspects.local import Local


def open_callable(address: str, *, classes: int) -> Local:
    """The function that `module:function` names, from the Python path or the current folder.

    Raises ValueError, in one line, if the module cannot be imported or holds no such function.
    """
    module, _, name = address.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # for good: the function may import more when it is called
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ValueError(f"{address}: cannot be imported ({told(error)})") from error
    if not callable(found):
        raise ValueError(f"{address}: is a {type(found).__name__}, not a function of images")
    return Local(address, "callable", classes, found)
