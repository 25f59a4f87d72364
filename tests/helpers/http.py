"""A real HTTP server on 127.0.0.1 that answers as a test says, well or badly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reply:
    """What is sent back: after `hold` seconds, `drip` seconds before each byte, claiming `missing` bytes too many."""

    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: float = 0.0
    drip: float = 0.0
    missing: int = 0

    def body(self) -> bytes:
        """Bytes as they are, all else as JSON."""
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


@dataclass(frozen=True)
class Asked:
    """A request that came: when, where, with which headers and body, and the images in it (n c h w) if it is a list."""

    time: float
    path: str
    headers: Mapping[str, str]
    body: Any
    images: NDArray[np.float64]


class Server(ThreadingHTTPServer):
    """Answers the first request with the first reply, and so on; the last reply is repeated."""

    daemon_threads, block_on_close = True, False

    def __init__(self, replies: Sequence[Reply | Callable[[Asked], Reply]], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.replies, self.asked = list(replies), list[Asked]()
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing when a client has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "[]")
        images = next(iter(content.values())) if isinstance(content, dict) else content
        came = Asked(time.monotonic(), self.path, dict(self.headers), content, np.array(images))
        self.server.asked.append(came)
        reply = self.server.replies[min(len(self.server.asked), len(self.server.replies)) - 1]
        reply = reply if isinstance(reply, Reply) else reply(came)
        time.sleep(reply.hold)
        with suppress(ConnectionError):
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        body = reply.body()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body) + reply.missing), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for part in (bytes([one]) for one in body) if reply.drip else [body]:
            time.sleep(reply.drip)
            self.wfile.write(part)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering(*replies: Reply | Callable[[Asked], Reply], port: int = 0) -> Iterator[Server]:
    """A running server."""
    with Server(replies, port) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
