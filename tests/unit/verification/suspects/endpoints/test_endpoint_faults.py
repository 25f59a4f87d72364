"""Endpoints that are slow, busy, broken, hostile or moved, and the secrets that are sent to them."""

from __future__ import annotations

import base64
import gzip
import math
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import numpy as np
import pytest

from mwm.verification.suspects import NoAnswerError
from mwm.verification.suspects.endpoints import transport
from mwm.verification.suspects.endpoints.credentials import TOKEN
from tests.helpers.http import Asked, Reply, Server, answering
from tests.helpers.servers import free_port
from tests.helpers.suspected import CLASSES, IMAGES, labels, network, opened, scores

LABELS = scores(network()).argmax(1)
RIGHT = Reply({"labels": LABELS.tolist()})
BUSY = Reply({"error": "busy"}, status=503)
SECRET = "pa/ss:w@rd"
BASIC = "Basic " + base64.b64encode(f"owner:{SECRET}".encode()).decode()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and no token but a test's own."""
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.02)
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.fixture
def closed() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


def gaps(server: Server) -> list[float]:
    """Seconds between the requests that came."""
    times = [asked.time for asked in server.asked]
    return [after - before for before, after in pairwise(times)]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again_after_ever_longer_pauses(status: int) -> None:
    with answering(*[Reply(status=status)] * 3, RIGHT) as server:
        assert np.array_equal(labels(opened(server.uri)), LABELS)
    assert all(gap >= 0.02 * 2**k for k, gap in enumerate(gaps(server)))
    assert len(server.asked) == 4
    assert all(np.array_equal(asked.images, server.asked[0].images) for asked in server.asked)


def test_attempts_are_bounded() -> None:
    with answering(BUSY) as server, pytest.raises(NoAnswerError) as told:
        opened(server.uri, retries=2)(IMAGES)
    assert len(server.asked) == 3
    assert not told.value.permanent
    assert str(told.value) == f"{server.uri}: gave no answer in 3 attempts; the last: 503 Service Unavailable: busy"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422, 451])
def test_a_refusal_is_final(status: int) -> None:
    with (
        answering(Reply(status=status)) as server,
        pytest.raises(NoAnswerError, match=f"refuses with {status} ") as told,
    ):
        opened(server.uri)(IMAGES)
    assert len(server.asked) == 1
    assert told.value.permanent


def soon(_: Asked) -> Reply:
    """Busy, for two seconds from now, of which the second that has begun may be lost."""
    return Reply(status=429, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=2), True)})


@pytest.mark.parametrize("busy", [Reply(status=503, headers={"Retry-After": "1"}), soon], ids=["seconds", "date"])
def test_a_server_may_say_how_long_it_wants_peace(busy: Reply) -> None:
    with answering(busy, RIGHT) as server:
        assert np.array_equal(labels(opened(server.uri)), LABELS)
    assert 0.9 <= gaps(server)[0] < 20


@pytest.mark.parametrize("wish", ["9" * 400, "99999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_but_not_for_ever(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LONGEST_PAUSE", 0.3)
    with answering(Reply(status=503, headers={"Retry-After": wish}), RIGHT) as server:
        assert np.array_equal(labels(opened(server.uri)), LABELS)
    assert 0.3 <= gaps(server)[0] < 20


@pytest.mark.parametrize("wish", ["", "-5", "soon", "1e3", "Sun, 06 Nov 1994 08:49:37 GMT", "²", "1, 2"])
def test_a_wish_that_is_none_is_passed_over(wish: str) -> None:
    with answering(Reply(status=503, headers={"Retry-After": wish}), RIGHT) as server:
        assert np.array_equal(labels(opened(server.uri)), LABELS)
    assert gaps(server)[0] < 20


def test_a_server_that_is_not_there_yet(closed: str) -> None:
    def later() -> None:
        time.sleep(0.2)
        with answering(RIGHT, port=int(closed.rpartition(":")[2])):
            done.wait(10)

    done = threading.Event()
    starting = threading.Thread(target=later)
    starting.start()
    try:
        assert np.array_equal(labels(opened(closed)), LABELS)
    finally:
        done.set()
        starting.join()


def test_a_server_that_is_never_there(closed: str) -> None:
    with pytest.raises(NoAnswerError, match="no answer in 3 attempts; the last: ConnectionRefusedError") as told:
        opened(closed, retries=2)(IMAGES)
    assert not told.value.permanent


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(NoAnswerError, match="no answer in 1 attempt; the last: gaierror"):
        opened("http://nowhere.invalid/", retries=0)(IMAGES)


SLOW = [Reply(RIGHT.content, hold=30), Reply(RIGHT.content, drip=0.05), Reply(RIGHT.body()[:5], missing=9, drip=0.2)]


@pytest.mark.parametrize("slow", SLOW, ids=["silent", "dripping", "stuck"])
def test_a_slow_answer_is_not_waited_for(slow: Reply) -> None:
    began = time.monotonic()
    with (
        answering(slow) as server,
        pytest.raises(NoAnswerError, match=r"2 attempts; the last: .*( 1 s|tim|Incomplete)") as told,
    ):
        opened(server.uri, timeout=1, retries=1)(IMAGES)
    assert not told.value.permanent
    assert time.monotonic() - began < 20
    assert len(server.asked) == 2


def test_a_slow_answer_may_be_followed_by_a_quick_one() -> None:
    with answering(SLOW[0], SLOW[1], RIGHT) as server:
        assert np.array_equal(labels(opened(server.uri, timeout=1)), LABELS)


def test_a_transfer_that_breaks_is_tried_again() -> None:
    with answering(Reply(RIGHT.content, missing=7), RIGHT) as server:
        assert np.array_equal(labels(opened(server.uri)), LABELS)
    assert len(server.asked) == 2


BOMB = gzip.compress(b" " * 2**27)


@pytest.mark.parametrize(
    "huge",
    [Reply(b" " * 2**22), Reply(b" " * 2**22, missing=10**12), Reply(BOMB, headers={"Content-Encoding": "gzip"})],
    ids=["long", "endless", "packed"],
)
def test_a_huge_answer_is_refused(huge: Reply) -> None:
    allowed = 2**20 + 100 * len(IMAGES) * CLASSES
    with answering(huge) as server, pytest.raises(NoAnswerError, match=f"answered with more than {allowed} bytes"):
        opened(server.uri)(IMAGES)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with answering(RIGHT) as other, answering(Reply(status=status, headers={"Location": other.uri})) as server:
        address = server.uri.replace("://", "://owner:secret@")
        with pytest.raises(NoAnswerError, match=f"sends on to '{other.uri}'; no redirect is followed") as told:
            opened(address)(IMAGES)
        assert told.value.permanent
    assert (len(server.asked), len(other.asked)) == (1, 0)


def faults(address: str) -> Iterator[str]:
    """All that a suspect says when it is refused, not there, or answers nonsense."""
    suspect = opened(address, retries=0)
    yield suspect.name
    for _ in range(3):
        with pytest.raises(NoAnswerError) as told:
            suspect(IMAGES)
        yield str(told.value)


def test_a_password_is_sent_and_never_shown() -> None:
    def echo(asked: Asked) -> Reply:
        return Reply({"labels": asked.headers["Authorization"]})

    with answering(Reply(status=401), echo, Reply(b"pa/ss:w@rd")) as server:
        address = server.uri.replace("://", "://owner:pa%2Fss%3Aw%40rd@")
        told = list(faults(address))
    told += faults(f"http://owner:pa%2Fss%3Aw%40rd@127.0.0.1:{free_port()}/")
    assert [asked.headers["Authorization"] for asked in server.asked] == [BASIC] * 3
    for text in told:
        assert not any(part in text for part in ("pa%2Fss", "pa/ss", "w@rd", "w%40rd", BASIC.split()[1])), text
        assert "://***@" in text


def test_a_token_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, " 127.0.0.1=t0ken\n")
    with answering(Reply(status=403), Reply(b"t0ken"), lambda asked: Reply(dict(asked.headers))) as server:
        told = list(faults(server.uri))
    assert {asked.headers["Authorization"] for asked in server.asked} == {"Bearer t0ken"}
    assert not any("t0ken" in text for text in told)


def test_what_stands_in_the_address_goes_before_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "127.0.0.1=t0ken")
    with answering(RIGHT) as server:
        opened(server.uri.replace("://", "://owner:pa%2Fss%3Aw%40rd@"))(IMAGES)
    assert server.asked[0].headers["Authorization"] == BASIC


def test_a_token_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "127.0.0.1=t0kén")
    with pytest.raises(ValueError, match="MWM_SUSPECT_TOKEN: holds what cannot be sent") as told:
        opened("http://127.0.0.1:1/")
    assert "t0k" not in str(told.value)


@pytest.mark.parametrize(
    "address", ["http://", "http://:80/", "http://owner:pa/ss@host/", "http://host:99999/", "http://[::1"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ValueError, match="is no usable address") as told:
        opened(address)
    assert "pa/ss" not in str(told.value)


@pytest.mark.parametrize(("timeout", "retries"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (1, -1)])
def test_a_setting_out_of_its_bounds(timeout: float, retries: int) -> None:
    with pytest.raises(ValueError, match=f"timeout {timeout}, retries {retries} are not allowed"):
        opened("http://127.0.0.1:1/", timeout=timeout, retries=retries)


@pytest.mark.parametrize("rate", [0, -1, math.nan, 1e-9])
def test_a_rate_out_of_its_bounds(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate {rate} is not allowed; allowed: "):
        opened("http://127.0.0.1:1/", rate=rate)


def test_a_rate_holds_for_repetitions_too() -> None:
    with answering(RIGHT, BUSY, BUSY, RIGHT, RIGHT) as server:
        suspect = opened(server.uri, rate=5)
        for _ in range(3):
            assert np.array_equal(labels(suspect), LABELS)
    assert len(server.asked) == 5
    assert min(gaps(server)) > 0.15
