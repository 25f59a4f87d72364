"""Cells that are run in a real kernel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launching import ROOT, environment


def run_cells(*cells: str, folder: Path = ROOT) -> list[list[dict[str, Any]]]:
    """What each cell gives out, run one after the other in `folder`. Skips the test where there is no Jupyter."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    if find_spec("ipykernel") is None:  # to import it here would make this process a notebook
        pytest.skip("ipykernel is not installed")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    where = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources=where)
    client.execute(env=environment() | {"PYTHONPATH": str(ROOT)})
    return [cell.outputs for cell in book.cells]
