"""What a verdict says of the way to an endpoint, and of how it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.http import Asked, Reply, answering
from tests.helpers.verifying import QUERIES, VerificationCase, answers, saying


def test_a_proxy_stands_in_the_report(
    ask: Ask, case: VerificationCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with answering(saying(answers(case.key))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.uri.replace("://", "://me:pr0xy@"))
        status, found = ask("--suspect", "http://somewhere.invalid/v1")
        here = f"127.0.0.1:{proxy.server_port}"
    assert status == 0
    assert f"http://somewhere.invalid/v1 was asked through the proxy http://***@{here}" in found["notes"]
    told = [file.read_text() for file in (tmp_path / found["report"]).iterdir()]
    assert any(here in text for text in told)
    assert not any("pr0xy" in text for text in told)


def test_a_server_that_takes_less_is_asked_in_more_requests(ask: Ask, case: VerificationCase) -> None:
    whole = saying(answers(case.key))

    def small(asked: Asked) -> Reply:
        return Reply(status=413) if len(asked.images) > 8 else whole(asked)

    with answering(small) as server:
        status, found = ask("--suspect", server.uri)
        again, same = ask("--suspect", server.uri, "--batch", "5", "--rerun")
    assert (status, again) == (0, 0)
    (suspect,), (other,) = found["suspects"], same["suspects"]
    assert (suspect["asked"], suspect["p_value"]) == (QUERIES, other["p_value"])
    assert len(server.asked) == 2 + 5 + QUERIES // 5


def test_the_protocol_is_an_option(ask: Ask, say: Say, case: VerificationCase) -> None:
    with answering(saying(answers(case.key))) as server:
        assert ask("--suspect", server.uri, "--protocol", "field:pixels")[0] == 0
    assert list(server.asked[0].body) == ["pixels"]
    words = ("verify", "--key", str(case.key), "--suspect", server.uri, "--protocol", "grpc")
    one_line(say(*words), "suspect: protocol: 'grpc' is not allowed; allowed: plain, mlflow, instances, kserve")


def test_a_password_in_clear_is_refused_before_anything_is_asked(say: Say, case: VerificationCase) -> None:
    words = ("verify", "--key", str(case.key), "--suspect", "http://me:s3cret@10.0.0.1/v1")
    one_line(say(*words), "its password is not sent to 10.0.0.1 without encryption; allowed: https, or this machine")
