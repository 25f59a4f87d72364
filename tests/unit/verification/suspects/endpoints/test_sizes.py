"""Servers that take fewer images at a time than they are asked about."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import numpy as np
import pytest

from mwm.verification.suspects import NoAnswerError
from mwm.verification.suspects.endpoints import transport
from tests.helpers.http import Asked, Reply, answering
from tests.helpers.suspected import IMAGES, labels, network, opened, scores

LABELS = scores(network()).argmax(1)
RIGHT = {image.tobytes(): label for image, label in zip(IMAGES, LABELS.tolist(), strict=True)}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses."""
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.02)


def at_most(count: int, refusal: Reply) -> Callable[[Asked], Reply]:
    """A server that answers to so many images, and refuses more."""

    def answer(asked: Asked) -> Reply:
        if len(asked.images) > count:
            return refusal
        shown = (asked.images * 255).round().astype(np.uint8)
        return Reply({"labels": [RIGHT[image.tobytes()] for image in shown]})

    return answer


def sizes(asked: list[Asked]) -> list[int]:
    """How many images came in each request."""
    return [len(one.images) for one in asked]


REFUSALS = {
    "413": Reply(status=413),
    "a page": Reply(b"<h1>413 Request Entity Too Large</h1>", status=413),
    "Triton": Reply({"error": "inference request batch-size must be <= 6 for 'net'"}, status=400),
    "FastAPI": Reply({"detail": [{"loc": ["body"], "msg": "List should have at most 6 items"}]}, status=422),
    "memory": Reply({"error": "CUDA out of memory. Tried to allocate 2 GiB"}, status=500),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_too_large_is_asked_in_halves_and_the_size_remembered(case: str) -> None:
    with answering(at_most(6, REFUSALS[case])) as server:
        suspect = opened(server.uri)
        assert np.array_equal(labels(suspect), LABELS)
        assert np.array_equal(labels(suspect), LABELS)
    assert sizes(server.asked) == [23, 11, 5, 5, 5, 5, 3, 5, 5, 5, 5, 3]
    assert suspect.most == 5  # type: ignore[attr-defined]


def test_one_image_that_is_too_large() -> None:
    with answering(Reply({"error": "body limit is 100 bytes"}, status=413)) as server:
        words = r"refuses one image \(\d+ bytes\) with 413 [\w ]+: body limit is 100 bytes$"
        with pytest.raises(NoAnswerError, match=words) as told:
            opened(server.uri)(IMAGES)
    assert told.value.permanent
    assert sizes(server.asked) == [23, 11, 5, 2, 1]


@pytest.mark.parametrize("status", [400, 401, 422])
def test_any_other_refusal_is_not_divided(status: int) -> None:
    with answering(Reply({"detail": "no such model"}, status=status)) as server, pytest.raises(NoAnswerError):
        opened(server.uri)(IMAGES)
    assert len(server.asked) == 1


def test_too_many_requests_are_not_too_many_images() -> None:
    busy = Reply({"error": "too many requests"}, status=429, headers={"Retry-After": "0"})
    with answering(busy, at_most(23, busy)) as server:
        assert np.array_equal(labels(opened(server.uri)), LABELS)
    assert sizes(server.asked) == [23, 23]


@contextmanager
def gate(port: int, longest: int) -> Iterator[int]:
    """Something before a server that resets a connection on which more than so many bytes come; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=_accept, args=(listening, port, longest), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, port: int, longest: int) -> None:
    while True:
        try:
            came, _ = listening.accept()
        except OSError:
            return
        with came, socket.create_connection(("127.0.0.1", port)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                head += came.recv(2**16)
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if length > longest:
                came.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                continue
            rest = length - len(head.partition(b"\r\n\r\n")[2])
            while rest > 0:
                part = came.recv(rest)
                head, rest = head + part, rest - len(part)
            server.sendall(head.replace(b"keep-alive", b"close"))
            while part := server.recv(2**16):
                came.sendall(part)


def test_a_connection_that_is_reset_may_be_too_long_a_question() -> None:
    with answering(at_most(23, Reply(status=413))) as server, gate(server.server_port, 3000) as port:
        suspect = opened(f"http://127.0.0.1:{port}/")
        assert np.array_equal(labels(suspect), LABELS)
    assert max(sizes(server.asked)) == suspect.most == 5  # type: ignore[attr-defined]


def test_a_server_that_resets_everything_is_given_up() -> None:
    with (
        answering(Reply()) as server,
        gate(server.server_port, 0) as port,
        pytest.raises(NoAnswerError, match=r"no answer in 3 attempts; the last: (Connection|Remote)") as told,
    ):
        opened(f"http://127.0.0.1:{port}/", retries=2)(IMAGES)
    assert not told.value.permanent
