"""A sweep that is run from a notebook, in a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launching import sweep
from tests.helpers.notebooks import run_cells

INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path
import mwm

def interrupt():
    journal = Path("results/small/journal.jsonl")
    while not (journal.exists() and '"event":"epochs"' in journal.read_text()):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)  # as the button of a notebook does

threading.Thread(target=interrupt, daemon=True).start()
sweep = mwm.load_sweep("sweep.yaml")
mwm.run_sweep(sweep).status
"""

RESUMED = """
done = mwm.run_sweep(sweep, resume=True)
done.status, len(mwm.read_results(done.folder))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_sweep_is_run_from_a_notebook(tmp_path: Path) -> None:
    sweep(tmp_path, lambda tree: tree["victim"]["recipe"].update(epochs=50))
    first, second = run_cells(INTERRUPTED, RESUMED, folder=tmp_path)
    assert first[-1]["data"]["text/plain"] == "130"
    assert second[-1]["data"]["text/plain"] == "(0, 6)"
    shown = [out["data"]["text/html"] for out in second if "text/html" in out.get("data", {})]
    assert "2 victims of 50 epochs and 4 attacks of 50 epochs" in shown[0], "the cell was cleared"
    assert len(shown) == 3, "the block is not one output"
    assert all(f"{count} done" in shown[1] for count in (2, 4))
    assert "unmarked" in shown[2], "more is printed than of the victim without a watermark"
