"""The heartbeat of a driver: a small file that it writes anew every other second."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HEARTBEAT = "status.json"
BEAT_SECONDS = 2.0
"""How often a driver says that it lives, and how far its trials are."""


class Heartbeat:
    """Shows from a thread of its own, in results/NAME/status.json, that a driver lives and what `look` gives."""

    def __init__(self, folder: Path, look: Callable[[], Mapping[str, Any]]) -> None:
        self._path, self._look, self._over = folder / HEARTBEAT, look, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        beside = self._path.with_name(f".{HEARTBEAT}")
        while True:
            said = {"at": time.time(), "pid": os.getpid(), "host": socket.gethostname(), **self._look()}
            try:
                beside.write_text(json.dumps(said) + "\n", encoding="utf-8")
                beside.replace(self._path)
            except OSError:  # a full disk: the journal tells it
                with suppress(OSError):
                    beside.unlink()
            if self._over.wait(BEAT_SECONDS):
                return

    def close(self) -> None:
        """Stop, and take the file away: what it says is over."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):
            self._path.unlink()


def read_heartbeat(folder: Path) -> dict[str, Any]:
    """What a driver said last; empty if there is none, or it has ended in good order."""
    try:
        said = json.loads((folder / HEARTBEAT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) and isinstance(said.get("at"), int | float) else {}
