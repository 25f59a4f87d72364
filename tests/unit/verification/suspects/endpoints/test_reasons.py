"""What a server says of a failure is told in one line, without what was confided to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mwm.verification.suspects import NoAnswerError
from mwm.verification.suspects.endpoints.credentials import TOKEN
from mwm.verification.suspects.endpoints.reasons import stated_reason
from tests.helpers.http import Asked, Reply, answering
from tests.helpers.suspected import IMAGES, opened

TRACE = 'Traceback (most recent call last):\n  File "/srv/a.py", line 3, in f\n    x()\nKeyError: {}\n'
NESTED = TRACE.format("1") + "\nDuring handling of the above exception, another exception occurred:\n\n"
NGINX = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request Entity"
NGINX += " Too Large</h1></center>\r\n<hr><center>nginx/1.18.0</center>\r\n</body>\r\n</html>"
FLASK = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was not"
)
FLASK += " found on the server &amp; so on.</p>"

SAID: dict[str, tuple[Any, str | None]] = {
    "text": ("no such model\nsee the manual", "no such model"),
    "error": ({"error": "no such model"}, "no such model"),
    "detail": ({"detail": "Not authenticated"}, "Not authenticated"),
    "message": ({"code": 5, "message": "quota is used up", "status": "X"}, "quota is used up"),
    "capitals": ({"Message": "Forbidden by policy"}, "Forbidden by policy"),
    "object": ({"error": {"code": 401, "message": "bad key", "details": []}}, "bad key"),
    "flag": ({"error": True, "message": "out of memory"}, "out of memory"),
    "list": ({"errors": [{"title": "Wrong", "detail": "shape is wrong"}]}, "shape is wrong"),
    "texts": ({"errors": ["first", "second"]}, "first"),
    "FastAPI": (
        {"detail": [{"type": "missing", "loc": ["body", "images"], "msg": "Field required", "input": {"a": 1}}]},
        "body.images: Field required",
    ),
    "MLflow": (
        {"error_code": "BAD_REQUEST", "message": "Failed to predict data '[[1 2]\n [3]]'. \nError: wrong schema"},
        "Error: wrong schema",
    ),
    "MLflow's trace": (
        {"message": "Encountered an error.", "stack_trace": TRACE.format("dtype")},
        "Encountered an error. (KeyError: dtype)",
    ),
    "trace": (TRACE.format("'weights'"), "KeyError: 'weights'"),
    "two traces": (NESTED + TRACE.format("2"), "KeyError: 2"),
    "trace in JSON": ({"detail": TRACE.format("3")}, "KeyError: 3"),
    "BentoML": (
        {"error": "1 validation error for Input\nimages\n  Field required [type=missing]"},
        "1 validation error for Input: images: Field required [type=missing]",
    ),
    "nginx": (NGINX, "413 Request Entity Too Large"),
    "Flask": (FLASK, "The requested URL was not found on the server & so on."),
    "XML": (
        "<?xml version='1.0'?>\n<Error><Code>No</Code><Message>You may not ask it</Message></Error>",
        "You may not ask it",
    ),
    "a JSON text": ("model is gone", "model is gone"),
    "unknown": ({"why": "because"}, '{"why": "because"}'),
    "nothing": ("", ""),
    "numbers": ([1, 2], ""),
    "deep": ({"error": {"error": {"error": {"error": {"error": {"error": {"error": "x"}}}}}}}, None),
}


@pytest.mark.parametrize("case", SAID)
def test_the_line_that_tells(case: str) -> None:
    content, line = SAID[case]
    said = content if isinstance(content, str) else json.dumps(content)
    found = stated_reason(said.encode())
    assert "\n" not in found
    if line is not None:
        assert found == line


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_gives_the_servers_reason(status: int) -> None:
    with (
        answering(Reply({"detail": "no such model: net"}, status=status)) as server,
        pytest.raises(NoAnswerError, match=rf"refuses with {status} [\w ]+: no such model: net$"),
    ):
        opened(server.uri)(IMAGES)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_so_does_the_last_of_several_attempts(status: int) -> None:
    with (
        answering(Reply(TRACE.format("5").encode(), status=status)) as server,
        pytest.raises(NoAnswerError, match=rf"in 1 attempt; the last: {status} [\w ]+: KeyError: 5$"),
    ):
        opened(server.uri, retries=0)(IMAGES)


def test_a_status_is_not_said_twice() -> None:
    with answering(Reply(b"Not Found", status=404)) as server, pytest.raises(NoAnswerError, match=r"404 Not Found$"):
        opened(server.uri)(IMAGES)


ERRORS = [
    {"error": "CUDA is gone"},
    {"detail": "CUDA is gone"},
    {"message": "CUDA is gone", "predictions": None},
    {"status": "failed", "errors": [{"msg": "CUDA is gone"}]},
    {"error": {"message": "CUDA is gone"}, "outputs": []},
]


@pytest.mark.parametrize("content", ERRORS)
@pytest.mark.parametrize("path", ["/", "/invocations", "/v1/models/a:predict"])
def test_an_error_in_a_sound_answer(content: dict[str, Any], path: str) -> None:
    with (
        answering(Reply(content)) as server,
        pytest.raises(NoAnswerError, match=r"answered with an error: CUDA is gone$") as told,
    ):
        opened(server.uri + path)(IMAGES)
    assert told.value.permanent
    assert len(server.asked) == 1


def echo(asked: Asked) -> Reply:
    """A server that says whom it does not let in, and why it thinks so."""
    said = asked.headers["Authorization"]
    return Reply({"error": f"{said}, {said.upper()} and {said.split()[-1]} at {asked.path}: not allowed"}, status=403)


@pytest.mark.parametrize(
    ("address", "secrets"),
    [
        ("://owner:pa%2Fss%3Aw0rd@", ["pa/ss:w0rd", "pa%2Fss", "b3duZXI6cGEvc3M6dzByZA=="]),
        ("://s3cret-t0ken@", ["s3cret-t0ken"]),
        ("://", ["t0ken-of-mine"]),
    ],
)
def test_what_was_confided_is_not_told(address: str, secrets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "127.0.0.1=t0ken-of-mine")
    with answering(echo) as server, pytest.raises(NoAnswerError, match=r"403 Forbidden: .*not allowed") as told:
        opened(server.uri.replace("://", address) + "/v1?api_key=s3same")(IMAGES)
    for secret in (*secrets, "s3same"):
        assert secret.lower() not in str(told.value).lower()


def test_a_servers_own_password_is_not_told_either() -> None:
    with (
        answering(Reply({"detail": "no route to postgresql://me:hidden@db/x"}, status=400)) as server,
        pytest.raises(NoAnswerError, match="no route to postgresql://me:") as told,
    ):
        opened(server.uri)(IMAGES)
    assert "hidden" not in str(told.value)


def test_a_long_reason_is_cut_and_a_huge_one_not_read() -> None:
    with answering(Reply(b"wrong " * 2**20, status=400)) as server, pytest.raises(NoAnswerError) as told:
        opened(server.uri)(IMAGES)
    assert len(str(told.value)) < 500


def test_a_reason_that_breaks_off_changes_nothing() -> None:
    with (
        answering(Reply(b"no such model", status=404, missing=9)) as server,
        pytest.raises(NoAnswerError, match="refuses with 404 Not Found") as told,
    ):
        opened(server.uri)(IMAGES)
    assert told.value.permanent
