"""Data sets that tell of the trials they are handed to: what a worker of Ray is like, seen from inside a real sweep."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from mwm.data.datasets import Dataset
from mwm.trials.trial import TrialInputs

_TOLD: WeakSet[threading.Thread] = WeakSet()
_STEPPED: WeakSet[threading.Thread] = WeakSet()


@dataclass(frozen=True, eq=False)
class Telling(TrialInputs):
    """Data sets that write a line into `folder` as a trial first asks for one, and after the trial's first step.

    A trial asks when all that its process had to be told is told. `meet`: how many trials wait for each other before
    any goes on. `threads`: how many a trial then takes instead of those that it was given; 0 leaves them.
    """

    folder: Path = Path()
    driver: int = 0
    meet: int = 1
    threads: int = 0

    def __getitem__(self, key: str) -> Dataset:
        thread = threading.current_thread()
        if os.getpid() != self.driver and thread not in _TOLD:
            _TOLD.add(thread)
            self._begin()
        return TrialInputs.__getitem__(self, key)

    def _begin(self) -> None:
        said = _own() | {"threads": torch.get_num_threads(), "variable": os.environ.get("OMP_NUM_THREADS", "")}
        if self.threads:
            torch.set_num_threads(self.threads)
        _tell(self.folder, "trial", said)
        while len(told(self.folder, "trial")) < self.meet:
            time.sleep(0.01)
        _tell(self.folder, "begin", _own())
        self._listen()

    def _listen(self) -> None:
        thread = threading.current_thread()

        def stepped(*_: Any) -> None:
            if threading.current_thread() is thread and thread not in _STEPPED:
                _STEPPED.add(thread)
                hook.remove()
                _tell(self.folder, "step", _own() | {"threads": torch.get_num_threads()})

        hook = register_optimizer_step_post_hook(stepped)


def telling(sets: TrialInputs, folder: Path, *, meet: int = 1, threads: int = 0) -> Telling:
    """The same data sets, telling all processes but this one's into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Telling(sets.data, sets.secrets, folder=folder, driver=os.getpid(), meet=meet, threads=threads)


def told(folder: Path, what: str) -> list[dict[str, Any]]:
    """What trials told of a moment ("trial", "begin" or "step"), the earliest first."""
    lines = [json.loads(path.read_text()) for path in folder.glob(f"{what}.*.json")]
    return sorted(lines, key=lambda line: float(line["at"]))


def _own() -> dict[str, Any]:
    return {"pid": os.getpid(), "at": time.time()}


def _tell(folder: Path, what: str, said: dict[str, Any]) -> None:
    name = f"{what}.{time.time_ns()}.{os.getpid()}"
    (folder / f"{name}.draft").write_text(json.dumps(said))
    (folder / f"{name}.draft").rename(folder / f"{name}.json")
