"""Public data sets are downloaded by one process, while others wait; over real HTTP, by torchvision's own code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from torchvision import datasets as public

from tests.unit.data.test_readers import write_cifar

LOAD = """
import json, sys
from torchvision import datasets as public
for name, value in json.loads(sys.argv[2]).items():
    setattr(public.CIFAR10, name, value)
from mwm.data.datasets import Cifar10
from mwm.data.readers import load_dataset
dataset = load_dataset(Cifar10(root=sys.argv[1]))
print(dataset.digest, *dataset.class_names[:2], sep=",")
"""


class Server(ThreadingHTTPServer):
    """Sends the same file each time, as soon as it may go on, and counts how often."""

    daemon_threads, block_on_close = True, False

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.go_on, self.asked = content, Event(), 0
        self.uri = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        looked = self.headers["Method"] == "HEAD"  # torchvision first asks so whether the file is elsewhere
        if not looked:
            self.server.asked += 1
            self.server.go_on.wait()
        with suppress(ConnectionError):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            self.wfile.write(b"" if looked else self.server.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """A running server."""
    with Server(content) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.go_on.set()
            server.shutdown()
            thread.join()


def packed(folder: Path, patch: pytest.MonkeyPatch) -> tuple[bytes, dict[str, Any]]:
    """The archive as it is published, and what says where it is and what is in it."""
    write_cifar(folder, public.CIFAR10, "labels", patch)
    content = (folder / public.CIFAR10.filename).read_bytes()
    shutil.rmtree(folder)
    return content, {name: getattr(public.CIFAR10, name) for name in ("train_list", "test_list", "meta", "tgz_md5")}


def loading(root: Path, server: Server, about: dict[str, Any]) -> subprocess.Popen[str]:
    """A process that loads the data set into a folder, and downloads it from a server if it has to."""
    told = json.dumps(about | {"url": f"{server.uri}/{public.CIFAR10.filename}"})
    command = [sys.executable, "-c", LOAD, str(root), told]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def asked(server: Server, count: int) -> None:
    """Wait until a server was asked so often."""
    end = time.monotonic() + 60
    while server.asked < count:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_one_process_downloads_and_the_others_wait_and_follow_if_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, about = packed(tmp_path / "made", monkeypatch)
    with serving(content) as server:
        first = loading(tmp_path / "data", server, about)
        asked(server, 1)
        others = [loading(tmp_path / "data", server, about) for _ in range(2)]
        said = [next(iter(process.stderr or ())) for process in others]
        assert server.asked == 1
        first.kill()
        first.communicate()
        server.go_on.set()
        told = [process.communicate(timeout=100) for process in others]
        assert server.asked == 2
    assert said == [f"cifar10: another process downloads it into {tmp_path / 'data'}; waiting\n"] * 2
    assert [process.returncode for process in others] == [0, 0], told
    assert len({out for out, _ in told}) == 1
    assert told[0][0].endswith(",thing 0,thing 1\n")
