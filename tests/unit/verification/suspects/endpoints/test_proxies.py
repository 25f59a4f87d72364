"""Proxies of the environment: never for this machine, told in the verdict where one is used."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mwm.storage.hosts import is_here
from mwm.verification.suspects import NoAnswerError
from mwm.verification.suspects.endpoints.credentials import TOKEN
from tests.helpers.http import Reply, Server, answering
from tests.helpers.servers import free_port
from tests.helpers.suspected import IMAGES, labels, network, opened, scores

LABELS = scores(network()).argmax(1)
RIGHT = Reply({"labels": LABELS.tolist()})
NAMES = [name for word in ("http", "https", "all", "no") for name in (f"{word}_proxy", f"{word.upper()}_PROXY")]


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A proxy that answers as the suspect would, and no other in the environment."""
    for name in (*NAMES, TOKEN):
        monkeypatch.delenv(name, raising=False)
    with answering(RIGHT) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "LOCALHOST"])
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_this_machine_is_not_asked_through_a_proxy(
    host: str, name: str, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy.uri)
    with answering(RIGHT) as server:
        suspect = opened(f"http://owner:secret@{host}:{server.server_port}/v1", retries=0)
        assert (labels(suspect) == LABELS).all()
    assert "Authorization" in server.asked[0].headers
    assert (suspect.notes, proxy.asked) == ((), [])  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["localhost.", "127.8.8.8", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "a.localhost"])
def test_nor_under_its_other_names(host: str, proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy.uri)
    with suppress(NoAnswerError):
        opened(f"http://owner:secret@{host}:{free_port()}/", retries=0)(IMAGES)
    assert not proxy.asked


def test_a_token_for_this_machine_stays_here(proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy.uri)
    monkeypatch.setenv(TOKEN, "127.0.0.1=t0ken")
    with answering(RIGHT) as server:
        opened(server.uri)(IMAGES)
    assert (len(proxy.asked), server.asked[0].headers["Authorization"]) == (0, "Bearer t0ken")


@pytest.mark.parametrize("host", ["::1", "::", "::ffff:127.9.0.1", "127.0.0.1", socket.gethostbyaddr("127.0.0.1")[0]])
def test_this_machine_under_its_names(host: str) -> None:
    assert is_here(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "::2", "::ffff:10.0.0.1", "128.0.0.1", "nowhere.invalid", "", "a" * 300])
def test_other_machines(host: str) -> None:
    assert not is_here(host)


@pytest.mark.parametrize("said", ["http://me:pr0xy@{}", "{}", "http://{}/"])
def test_a_proxy_in_use_is_told_without_its_password(said: str, proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", said.format(f"127.0.0.1:{proxy.server_port}"))
    suspect = opened("http://somewhere.invalid/v1")
    assert (labels(suspect) == LABELS).all()
    (note,) = suspect.notes  # type: ignore[attr-defined]
    assert note.startswith("http://somewhere.invalid/v1 was asked through the proxy http://")
    assert f"127.0.0.1:{proxy.server_port}" in note
    assert "pr0xy" not in note
    assert proxy.asked[0].path == "http://somewhere.invalid/v1"
    monkeypatch.setenv("no_proxy", "somewhere.invalid")
    direct = opened("http://somewhere.invalid/v1")
    assert direct.notes == ()  # type: ignore[attr-defined]
    assert direct.identity != suspect.identity, "another may answer there"


@pytest.mark.parametrize("said", ["socks5://me:pr0xy@host:1080", "ftp://host", "http://", "http://host:99999", "h:0"])
def test_a_proxy_that_cannot_be_used(said: str, proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    del proxy
    monkeypatch.setenv("all_proxy", said)
    with pytest.raises(ValueError, match=r"^proxy: .* is not allowed; allowed: http, https://HOST:PORT; see ") as told:
        opened("http://somewhere.invalid/v1")
    assert "pr0xy" not in str(told.value)
    opened("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("http://owner:s3cret@host.invalid/", "its password"),
        ("http://s3cret@10.0.0.1/", "its password"),
        ("http://host.invalid/v1?api_key=s3cret", "its query"),
        ("http://host.invalid/v1?a=b&token=s3cret", "its query"),
    ],
)
def test_nothing_secret_goes_to_another_machine_in_clear(address: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} is not sent to .* without encryption; allowed: https, or") as told:
        opened(address)
    assert "s3cret" not in str(told.value)
    assert "\n" not in str(told.value)
    opened(address.replace("http://", "https://"))


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_of_ones_own_is_still_read(variable: str, proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    del proxy
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/no/such/file.pem")
    with pytest.raises(NoAnswerError, match=r"/no/such/file.pem"):
        opened("https://127.0.0.1:1/", retries=0)(IMAGES)


def test_a_proxy_that_is_not_there_is_named(proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    del proxy
    here = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("http_proxy", f"http://me:pr0xy@{here}")
    words = rf"in 1 attempt through the proxy http://\*\*\*@{here}; the last: ConnectionRefusedError"
    with pytest.raises(NoAnswerError, match=words) as told:
        opened("http://somewhere.invalid/v1", retries=0)(IMAGES)
    assert "pr0xy" not in str(told.value)
