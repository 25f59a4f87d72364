"""A key, its network, networks that never saw it, and a suspect behind HTTP, for tests of verdicts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.attacks import Extraction
from mwm.data import Split
from mwm.inquiry import Questions
from mwm.journal import Journal
from mwm.models import Cnn
from mwm.schemes import Base, Unmarked
from mwm.spec import encode
from mwm.store import Store
from mwm.suspects import open_suspect
from mwm.trial import Outcome, Trial
from tests.small import RECIPE, VICTIM, done, loaded, theft

CLASSES, QUERIES = 4, 30
SHAPE = (1, 6, 6)
FILES = ("SHA256SUMS", "answers.jsonl", "report.md", "verdict.json")
MARKED = replace(
    VICTIM,
    split=Split(validation=24, queries=QUERIES),
    model=Cnn(width=8, depth=1),
    scheme=Base(num_queries=QUERIES, queries_per_step=QUERIES),
    recipe=replace(RECIPE, epochs=60),
)
UNMARKED = replace(MARKED, scheme=Unmarked(num_queries=QUERIES), recipe=RECIPE)
STUDENT = Extraction(recipe=RECIPE)

Say = Callable[[NDArray[np.uint8]], Any]


@dataclass(frozen=True)
class Court:
    """Folders: of the key, which is its network's, too; of a network that never saw it; of a sweep of such ones."""

    home: Path
    key: Path
    innocent: Path
    null: Path


def court(home: Path, innocents: int = 3) -> Court:
    """Train all of it. The sweep holds the marked network, too, its student, and the control with the key's queries."""
    sets, store, told = loaded(home), Store(home / "store"), []

    def train(trial: Trial) -> Outcome:
        told.append((trial, done(trial, sets, store)))
        return told[-1][1]

    key = train(Trial(victim=MARKED))
    train(theft(STUDENT, MARKED))
    train(Trial(victim=UNMARKED))
    others = [replace(UNMARKED, seed=seed) for seed in range(1, 1 + innocents)]
    innocent, *_ = [train(Trial(victim=victim)) for victim in others]
    train(theft(STUDENT, others[0]))
    null = home / "results" / "null"
    null.mkdir(parents=True)
    journal = Journal(null, print)
    journal.begin()
    for trial, outcome in told:
        journal.finish(encode(trial), asdict(outcome), "")
    return Court(home, store.folder(key.digest), store.folder(innocent.digest), null)


def answers(entry: Path) -> Say:
    """What the network of a store entry answers."""
    return open_suspect(str(entry), shape=SHAPE, classes=CLASSES)


class Witness:
    """A suspect behind HTTP that answers what `say` does, as labels or scores.

    `faults` come first, one per request: a status to answer with, or a text to answer instead. `pause` is the time
    (seconds) that it takes for each answer. `asked` holds the images of each request that it answered.
    """

    def __init__(self, say: Say) -> None:
        self.say, self.pause = say, 0.0
        self.faults: list[int | str] = []
        self.asked: list[NDArray[np.uint8]] = []
        self.address = ""

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Status and content of the answer to one request."""
        fault = self.faults.pop(0) if self.faults else 200
        if isinstance(fault, str):
            return 200, fault.encode()
        if fault != 200:
            return fault, b""
        images = (np.array(json.loads(body)["images"]) * 255).round().astype(np.uint8)
        time.sleep(self.pause)
        said = self.say(images)
        self.asked.append(images)
        return 200, json.dumps({"labels" if said.ndim == 1 else "logits": said.tolist()}).encode()


@contextmanager
def witness(say: Say) -> Iterator[Witness]:
    """A server on 127.0.0.1, in a thread of this process."""
    held = Witness(say)

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, content = held.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    held.address = f"http://127.0.0.1:{server.server_port}/ask"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def questions(count: int = 12, seed: int = 0) -> Questions:
    """Random queries in the order of their numbers, all different."""
    drawn = np.random.default_rng(seed)
    images = drawn.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    truth = drawn.integers(0, CLASSES, count)
    labels = (truth + drawn.integers(1, CLASSES, count)) % CLASSES
    return Questions(list(range(count)), images, labels, truth, CLASSES)
