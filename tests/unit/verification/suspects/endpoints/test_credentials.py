"""What is sent to whom: passwords, tokens, and nothing that nobody named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mwm.verification.suspects.endpoints.credentials import TOKEN, bearer_token
from tests.helpers.http import Reply, answering
from tests.helpers.suspected import IMAGES, labels, network, opened, scores

LABELS = scores(network()).argmax(1)
RIGHT = Reply({"labels": LABELS.tolist()})


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token but a test's own."""
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.mark.parametrize("tokens", ["host=t0ken", " other=no host=t0ken\n", "HOST=t0ken", "host=no host:443=t0ken"])
def test_a_token_goes_to_its_host(tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, tokens)
    assert bearer_token("https://host/v1") == bearer_token("https://Host:443") == "t0ken"


@pytest.mark.parametrize(
    "url", ["https://hos/", "https://host.evil/", "https://a.host/", "http://other/?host=t0ken", "https://[::2]/"]
)
def test_and_to_no_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "host=t0ken [::1]=two")
    assert bearer_token(url) == ""


def test_a_token_may_be_for_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "127.0.0.1:81=a== [::1]=b localhost:80=c")
    for url, said in (
        ("http://127.0.0.1:81/", "a=="),
        ("http://127.0.0.1:82/", ""),
        ("http://[::1]:5/", "b"),
        ("http://localhost/", "c"),
    ):
        assert bearer_token(url) == said


@pytest.mark.parametrize("url", ["http://host/", "http://10.0.0.1/", "http://127.0.0.1.evil/"])
def test_a_token_is_not_sent_where_all_can_read_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = url.split("/")[2]
    monkeypatch.setenv(TOKEN, f"{name}=t0ken")
    with pytest.raises(ValueError, match=f"{TOKEN}: is not sent to {name} without encryption; allowed: https") as told:
        opened(url)
    assert "t0ken" not in str(told.value)


@pytest.mark.parametrize("said", ["t0ken", "t0ken==", "=t0ken", "host= t0ken", "host=a t0ken", "a/b=t0ken", "t0.en:80"])
def test_a_token_without_its_host_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, said)
    with pytest.raises(ValueError, match="does not say whom a token is for; allowed: HOST=TOKEN or") as told:
        opened("http://127.0.0.1:1/")
    assert "\n" not in str(told.value)
    assert "t0" not in str(told.value)


def test_nothing_is_read_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with answering(RIGHT) as server:
        from requests.utils import get_netrc_auth

        assert get_netrc_auth(server.uri) == ("me", "secret"), "the file would be found"
        assert (labels(opened(server.uri)) == LABELS).all()
    assert "Authorization" not in server.asked[0].headers


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with answering(RIGHT) as proxy:
        monkeypatch.setenv("http_proxy", proxy.uri)
        opened("http://somewhere.invalid/v1")(IMAGES)
    assert proxy.asked[0].path == "http://somewhere.invalid/v1"
