"""What is shown of addresses, errors and texts from elsewhere: no password, no token, one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.storage.redaction import (
    failure_reason,
    one_line,
    redact,
    redact_uri,
    redact_url,
    redacted_excerpt,
    root_cause,
    uri_secrets,
)

SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=12)


@given(SECRET)
def test_a_password_is_never_shown(secret: str) -> None:
    shown = redact(f"cannot reach postgresql://ann:{secret}@host/runs today")
    assert shown == "cannot reach postgresql://ann:***@host/runs today"
    assert redact("http://host:5000/?password=ab&x=1") == "http://host:5000/?password=***&x=1"


def test_tokens_and_keys_are_passwords() -> None:
    assert redact("https://TOKEN@host/x") == "https://***@host/x"
    assert redact("https://host/?access_key=ab&sig=cd&x=1") == "https://host/?access_key=***&sig=***&x=1"


def test_a_text_without_a_password_stays_as_it_is() -> None:
    assert redact("http://host:5000 said: mail ann@host") == "http://host:5000 said: mail ann@host"


def test_a_text_from_elsewhere_is_made_fit_to_be_shown() -> None:
    assert (
        redacted_excerpt("a\n\tb\x1b[31m http://me:secret@host/?api_key=7")
        == "a b?[31m http://me:***@host/?api_key=***"
    )
    assert redacted_excerpt("x" * 200) == "x" * 200


@given(st.integers(10, 400), st.integers(0, 1000))
def test_of_a_long_text_both_ends_are_shown(longest: int, more: int) -> None:
    text = f"<{'x' * (longest + more)}>"
    shown = redacted_excerpt(text, longest)
    assert len(shown) == longest
    assert (shown[0], shown[-1], " ... " in shown) == ("<", ">", True)


def test_the_bottom_of_an_error_is_where_it_began() -> None:
    first, middle, last = TimeoutError("late"), ValueError("middle"), KeyError("top")
    last.__context__, middle.__cause__ = middle, first
    assert root_cause(last) is first
    assert root_cause(first) is first


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("http://host:80/v1/ask", "http://host:80/v1/ask"),
        ("https://host/a/b?api_key=7&x=1", "https://host/a/b?***"),
        ("https://host/a#part", "https://host/a?***"),
        ("https://host?code", "https://host?***"),
        ("https://me:secret@host:8/a", "https://***@host:8/a"),
        ("https://secret@host/a?b", "https://***@host/a?***"),
        ("https://secret:@host/a/x@y", "https://***@host/a/x@y"),
        ("https://host:80/v1?model=net@champion", "https://host:80/v1?***"),
        ("http://me:pa/secret@host/", "http://***@host/"),
        ("http://me:pa?secret@host/v?w", "http://***@host/v?***"),
        ("http://me:pa#se@cret@host/", "http://***@host/"),
        ("http://me:se cret@host/", "http://***@host/"),
        ("http://me:12/secret@host/", "http://me:***@host/"),
        ("http://[::1]:8/a?b", "http://[::1]:8/a?***"),
    ],
)
def test_only_where_an_endpoint_is_is_shown(address: str, name: str) -> None:
    assert redact_url(address) == name


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://k:p@bucket/a?session_token=t", "s3://bucket/a"),
        ("s3://KEY:pass/word@bucket/x?region=r", "s3://bucket/x"),
        ("s3://KEY:pass?wo@rd@bucket/x", "s3://***"),
        ("/home/me@host/x", "/home/me@host/x"),
    ],
)
def test_only_where_a_store_is_is_shown(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown


def test_secrets_of_a_store_are_known_in_every_form() -> None:
    found = uri_secrets("s3://KEY:pass%2Fword@bucket/x?session_token=tik&region=eu-west")
    assert found >= {"KEY", "pass%2Fword", "pass/word", "tik"}
    assert "eu-west" not in found


def test_our_own_text_is_made_one_line() -> None:
    assert one_line("a\n\tb\x1b[31m  c") == "a b [31m c"


def test_an_error_without_words_is_named() -> None:
    assert failure_reason(KeyError()) == "KeyError"


def test_an_error_is_one_line_with_what_decides() -> None:
    assert (
        failure_reason(Exception("gone to http://ann:secret@host\nand more")) == "gone to http://ann:***@host and more"
    )
    said = (
        "(psycopg2.OperationalError) server closed\n[SQL: INSERT x]\n(Background on this error at: https://sqlalche.me)"
    )
    assert failure_reason(Exception(said)) == "(psycopg2.OperationalError) server closed"
    page = "error code 403. Response body: '<!doctype html>\n<style>a { b }</style><h1>Forbidden</h1>\n<p>ask Ann</p>'"
    assert failure_reason(Exception(page)) == "error code 403. Response body: ' Forbidden ask Ann '"
    assert failure_reason(Exception("run mlflow db upgrade <database_uri>")).endswith("<database_uri>")


@pytest.mark.parametrize(
    ("address", "reason"),
    [("http://127.0.0.1:1", "Connection refused"), ("http://nowhere.invalid", "[Errno -")],
)
def test_of_a_connection_that_fails_only_the_reason_is_told(address: str, reason: str) -> None:
    import requests

    with pytest.raises(requests.RequestException) as caught:
        requests.get(address, timeout=5)
    wrapped = RuntimeError(f"request to {address} failed with exception {caught.value}")
    wrapped.__context__ = caught.value
    said = failure_reason(wrapped)
    assert reason in said
    assert said.startswith("[Errno ")
    assert len(said) < 60
