"""A real HTTP server on 127.0.0.1 before another one: it passes on what it is asked, or refuses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """A request: its method, its path with the options, its body."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Refusal:
    """What is answered in place of the server; it may be no refusal, but a lie."""

    status: int = 404
    body: bytes = b"<html><body>Not Found</body></html>"


Rule = Callable[[Asked], Refusal | None]


def at(path: str, refusal: Refusal) -> Rule:
    """Refuse what is asked at a path that contains `path`."""
    return lambda asked: refusal if path in asked.path else None


@dataclass
class Gate:
    """The address of the server through the proxy, the rules by which it refuses now, and what it refused, by path."""

    uri: str
    rules: list[Rule] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    gate: Gate
    behind: str


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        gate = self.server.gate
        asked = Asked(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        refusal = next(filter(None, (rule(asked) for rule in gate.rules)), None)
        if refusal is not None:
            gate.refused[urlsplit(self.path).path] += 1
            self._answer(refusal.status, refusal.body)
            return
        connection = HTTPConnection(self.server.behind, timeout=60)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            connection.request(self.command, self.path, asked.body, headers)
            answer = connection.getresponse()
            self._answer(answer.status, answer.read())
        finally:
            connection.close()

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def gate(uri: str) -> Iterator[Gate]:
    """A proxy before the server at `uri`, which refuses nothing at first."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.behind = urlsplit(uri).netloc
    server.gate = Gate(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.gate
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
