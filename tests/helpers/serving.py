"""Real servers of models on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from tests.helpers.servers import free_port, wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(command: Sequence[str], folder: Path, healthy: str, **environment: str) -> Iterator[None]:
    """A command that serves a model, run in a folder, once its address `healthy` says so; ended with all its own."""
    found = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}
    found |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment}
    with (folder / "serve.log").open("wb") as log:
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen([*command], cwd=folder, env=found, start_new_session=True, **quiet)

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(healthy, timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    try:
        wait_until(answers, process)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def mlflow_scoring(model: str, store: str, folder: Path, port: int) -> Iterator[str]:
    """A real scoring server of MLflow's for a model; its address."""
    options = f"--model-uri {model} --env-manager local --host 127.0.0.1 --port {port} --workers 1"
    command = [sys.executable, "-m", "mlflow", "models", "serve", *options.split()]
    with serving(command, folder, f"http://127.0.0.1:{port}/health", MLFLOW_TRACKING_URI=store):
        yield f"http://127.0.0.1:{port}/invocations"


@contextmanager
def asgi(app: Any) -> Iterator[str]:
    """An application of FastAPI or the like, behind uvicorn in this process; its address."""
    import uvicorn

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
