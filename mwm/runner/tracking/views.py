"""Saved views of MLflow's page: a table or charts that open by a link, kept as tags of an experiment."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mwm.runner.tracking.client import MAX_TAG_CHARS, MlflowExperiment

VIEW, WROTE = "mlflow.sharedViewState.", "mwm.wrote."
"""How MLflow begins the name of a view's tag, and ours of the tag that remembers what was written to another."""


@dataclass(frozen=True)
class View:
    """A saved view under its `id`: what the menu calls it, and the state of the page."""

    id: str
    name: str
    state: Mapping[str, Any]


def write_view(experiment: MlflowExperiment, view: View) -> None:
    """Write a view, unless somebody has changed or removed it."""
    packed = "deflate;" + base64.b64encode(zlib.compress(json.dumps(view.state).encode(), 9)).decode()
    now = time.time_ns() // 10**6
    text = json.dumps({"name": view.name, "createdAt": now, "updatedAt": now, "state": packed})
    assert len(text) <= MAX_TAG_CHARS
    experiment.log_tag(VIEW + view.id, text)
