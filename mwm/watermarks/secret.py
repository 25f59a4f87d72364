"""An owner's secret: 32 bytes in a file."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

from mwm.config.randomness import derived_secret, secret_from_seed

GUESSES = 10_000
"""How many seeds are tried, from 0, to see whether a secret follows from one: the first that anybody would try."""


def second_secret(secret: bytes) -> bytes:
    """The secret of the second key of a network that carries two."""
    return derived_secret(secret, "confusion")


def follows_from_seed(secret: bytes, seed: int) -> bool:
    """Whether a secret is that of the first or of the second key of a seed."""
    first = secret_from_seed(seed)
    return secret in (first, second_secret(first))


def is_guessable(secret: bytes) -> bool:
    """Whether a secret follows from one of the first `GUESSES` seeds, as whoever wants the key finds out in no time."""
    return any(follows_from_seed(secret, seed) for seed in range(GUESSES))


def secret_digest(secret: bytes) -> str:
    """64 hexadecimal digits that tell two secrets apart, and neither of them."""
    return hmac.digest(secret, b"name", "sha256").hex()


def parse_secret(text: str) -> bytes:
    """The secret that 64 hexadecimal digits say; ValueError, which does not repeat them, for anything else."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("not 64 hexadecimal digits, as `openssl rand -hex 32` writes them")
    return bytes.fromhex(text)


def read_secret(path: str) -> bytes:
    """The secret in a file of 64 hexadecimal digits; ValueError, in one line that does not show the content."""
    try:
        with Path(path).expanduser().open("rb") as content:
            return parse_secret(content.read(100).decode("ascii", "replace").strip())
    except OSError as error:
        raise ValueError(f"{path}: the secret cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
