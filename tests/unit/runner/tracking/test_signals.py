"""A signal while a sweep begins or ends: no run of MLflow stays shown as running."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from threading import Thread

import pytest
from mlflow import MlflowClient

from tests.helpers.launching import ROOT
from tests.helpers.tracked import track


def test_a_signal_before_the_thread_runs_is_the_error_that_is_raised_and_nothing_is_begun(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted: list[Thread] = []

    def stop(thread: Thread) -> None:
        interrupted.append(thread)
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", stop)
        with pytest.raises(SystemExit, match="143"):
            track(uri)
    (late,) = interrupted
    late.start()  # the system had begun it already
    late.join()
    found = MlflowClient(uri).search_experiments(filter_string="name = 'trial'")
    assert not MlflowClient(uri).search_runs([one.experiment_id for one in found])


SIGNALLED = """
import signal, sys, time
from contextlib import suppress
from tests.helpers.tracked import begin, track
came = []
def stop(number, frame):
    came.append(number)
    raise SystemExit(128 + number)
for name in ("first", "second"):  # an import that a signal interrupts cannot be repeated
    began = time.monotonic()
    with track(sys.argv[1], name) as tracker:
        begin(tracker)
    took = time.monotonic() - began
signal.signal(signal.SIGALRM, stop)
for step in range(16):
    came.clear()
    signal.setitimer(signal.ITIMER_REAL, 0.001 + took * step / 12)
    with suppress(SystemExit), track(sys.argv[1], f"sweep {step}") as tracker:
        begin(tracker)
        while not came:
            time.sleep(0.01)
        raise SystemExit
"""


@pytest.mark.slow
def test_a_signal_at_any_moment_leaves_nothing_running(uri: str) -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED, uri], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(uri)
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert len(found) >= 10
    assert Counter(run.info.status for run in found if run.data.tags["kind"] == "sweep")["KILLED"] >= 3
    assert "RUNNING" not in {run.info.status for run in found}
