"""The rule: held against a few lines that know nothing of it but its text, and against golden values."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mwm.config import randomness

SECRETS = st.binary(min_size=32, max_size=32)
USES = st.sampled_from(["choice", "label", "top", "x"])


def mac(secret: bytes, message: str) -> bytes:
    """HMAC-SHA-256 as RFC 2104 writes it, for a key of 32 bytes."""
    inner, outer = (bytes(byte ^ pad for byte in secret.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return hashlib.sha256(outer + hashlib.sha256(inner + message.encode("ascii")).digest()).digest()


def strangers_below(secret: bytes, use: str, index: int, bound: int) -> int:
    counter = 0
    while (word := int(mac(secret, f"{use}/{index}/{counter}").hex()[:16], 16)) >= 2**64 - (2**64 % bound):
        counter += 1
    return word % bound


@settings(deadline=None)
@given(secret=SECRETS, use=USES, index=st.integers(0, 10**6), bound=st.integers(1, 2**64))
def test_a_stranger_draws_the_same_numbers(secret: bytes, use: str, index: int, bound: int) -> None:
    drawn = randomness.keyed_randbelow(secret, use, index=index, bound=bound)
    assert drawn == strangers_below(secret, use, index, bound)
    assert 0 <= drawn < bound


def test_words_that_favour_some_numbers_are_drawn_again() -> None:
    secret, bound = randomness.secret_from_seed(1), 2**63 + 1  # almost every second word is rejected
    first = [int.from_bytes(mac(secret, f"x/{index}/0")[:8], "big") for index in range(200)]
    rejected = [index for index, word in enumerate(first) if word >= bound]
    assert 60 < len(rejected) < 140
    for index, word in enumerate(first):
        drawn = randomness.keyed_randbelow(secret, "x", index=index, bound=bound)
        assert drawn == strangers_below(secret, "x", index, bound)
        assert (drawn == word) == (index not in rejected)


@settings(deadline=None)
@given(secret=SECRETS, use=USES, count=st.integers(0, 60), fewer=st.integers(0, 60))
def test_a_stranger_sorts_alike(secret: bytes, use: str, count: int, fewer: int) -> None:
    order = randomness.keyed_permutation(secret, use, count)
    keys = {index: mac(secret, f"{use}/{index}").hex() for index in range(count)}
    assert order == sorted(keys, key=lambda index: keys[index])
    assert [index for index in order if index < fewer] == randomness.keyed_permutation(secret, use, min(fewer, count))


def test_the_values_of_this_rule_stay_the_same() -> None:
    secret = randomness.secret_from_seed(0)
    assert randomness.DERIVATION == "mwm-key-1"
    assert secret == hashlib.sha256(b"mwm-key-1/seed/0").digest()
    assert secret.hex() == "41998aef968e28e60b7e65c49e9532ff822b082cfe859d43600c6a71ff3e61ab"
    assert randomness.keyed_permutation(secret, "choice", 12) == [1, 5, 3, 10, 8, 4, 11, 0, 2, 9, 6, 7]
    labels = [randomness.keyed_randbelow(secret, "label", index=index, bound=9) for index in range(12)]
    assert labels == [5, 0, 0, 1, 0, 0, 8, 5, 1, 5, 0, 4]
    assert randomness.keyed_randbelow(bytes(range(32)), "x", index=7, bound=2**64) == 13223575315333666775


@pytest.mark.parametrize("bound", [2, 3, 9, 99])
def test_numbers_are_uniform_and_do_not_tell_of_each_other(bound: int) -> None:
    drawn = np.array(
        [
            randomness.keyed_randbelow(randomness.secret_from_seed(3), "label", index=index, bound=bound)
            for index in range(100 * bound)
        ]
    )
    assert chisquare(np.bincount(drawn, minlength=bound)).pvalue > 1e-3
    other = np.array(
        [
            randomness.keyed_randbelow(randomness.secret_from_seed(3), "top", index=index, bound=bound)
            for index in range(100 * bound)
        ]
    )
    assert chisquare(np.bincount((drawn - other) % bound, minlength=bound)).pvalue > 1e-3
    assert chisquare(np.bincount((drawn[1:] - drawn[:-1]) % bound, minlength=bound)).pvalue > 1e-3


def test_seeds_uses_and_secrets_have_nothing_in_common() -> None:
    orders = {
        tuple(randomness.keyed_permutation(randomness.secret_from_seed(seed), use, 20))
        for seed in (0, 1, 10)
        for use in ("split", "choice")
    }
    assert len(orders) == 6
