"""An owner's secret: read from its file, never shown, and told from one that follows from a small seed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mwm.config.randomness import secret_from_seed
from mwm.watermarks.secret import GUESSES, is_guessable, read_secret, secret_digest


def test_a_digest_tells_two_secrets_apart_and_neither_of_them() -> None:
    one, other = secret_from_seed(0), secret_from_seed(1)
    assert secret_digest(one) != secret_digest(other)
    assert one.hex() not in secret_digest(one)
    assert secret_digest(one) == "d7efb8fb02e686f66ffffdbed36609e29454cd12e57fc4d7f47682101923cbc8"


def test_the_first_seeds_can_be_guessed() -> None:
    for seed in (0, 1, 4321, GUESSES - 1):
        assert is_guessable(secret_from_seed(seed))
    for chosen in (bytes(32), secret_from_seed(GUESSES), secret_from_seed(2**62)):
        began = time.process_time()
        assert not is_guessable(chosen)
        assert time.process_time() - began < 0.25, "every key that is read waits for this"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_its_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "owner.secret"
    path.write_bytes(("0aF1" * 16 + ending).encode())
    assert read_secret(str(path)) == bytes.fromhex("0af1" * 16)


CONTENTS = [b"", b"\n", b"ab" * 31, b"ab" * 33, b"ab" * 31 + b"xy", b"\xff" * 32, b"ab" * 20 + b"\n" + b"cd" * 12]


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_secret_is_refused_and_not_shown(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "owner.secret"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"64 hexadecimal digits, as `openssl rand -hex 32` writes") as caught:
        read_secret(str(path))
    said = str(caught.value).removeprefix(f"{path}: ")
    assert "ab" not in said
    assert "\n" not in said
    path.write_text("12" * 32)
    assert read_secret(str(path)) == b"\x12" * 32


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "nowhere", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ValueError, match=f"^{path}: the secret cannot be read .{reason}"):
            read_secret(str(path))
