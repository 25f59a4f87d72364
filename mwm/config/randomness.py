"""The key derivation mwm-key-1: how a key follows from a secret, the same in every language and on every machine.

A secret is 32 bytes. Everything is drawn by HMAC-SHA-256 (RFC 2104) with the secret as its key; messages are ASCII,
integers in them are decimal without leading zeros, and a use is a word without a slash.

- The secret of an integer seed is the SHA-256 of "mwm-key-1/seed/SEED": reproducible, and as easy to guess as the seed.
- The order of 0 to n - 1 for a use: sorted by the HMAC of "USE/INDEX", compared byte by byte.
- A number below a bound, 1 to 2^64, for a use and an index: for counter 0, 1, 2, ... let w be the first 8 bytes of the
  HMAC of "USE/INDEX/COUNTER" as a big-endian integer; the first w below 2^64 - (2^64 mod bound) gives w mod bound.
- The name of a secret, which does not tell it: the HMAC of "name" in 64 hexadecimal digits.
- The secret of another key of the same owner: the HMAC of its use, such as "confusion".

`data.splits.split` and `watermarks.queries.draw_queries` say what is drawn for which use. What a data set deals into
training and test images is not derived: its files say it, and for scikit-learn's digits, which have no such files,
PyTorch's generator, once.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DERIVATION = "mwm-key-1"

WORDS = 2**64


def secret_from_seed(seed: int) -> bytes:
    """The 32-byte secret of a sweep's integer seed: reproducible, and as easy to guess as the seed."""
    return hashlib.sha256(f"{DERIVATION}/seed/{seed}".encode()).digest()


def derived_secret(secret: bytes, use: str) -> bytes:
    """The 32-byte secret of another key: whoever has the first has both, and the second tells nothing of the first."""
    return hmac.digest(secret, use.encode(), "sha256")


def keyed_permutation(secret: bytes, use: str, count: int) -> list[int]:
    """The numbers 0 to `count` - 1 in an order that only the secret tells."""
    begun = hmac.new(secret, f"{use}/".encode(), "sha256")

    def rank(index: int) -> bytes:
        whole = begun.copy()
        whole.update(b"%d" % index)
        return whole.digest()

    return sorted(range(count), key=rank)


def keyed_randbelow(secret: bytes, use: str, *, index: int, bound: int) -> int:
    """One of 0 to `bound` - 1, all exactly as likely: what would favour some is rejected and drawn again."""
    assert 1 <= bound <= WORDS, f"no number below {bound}"
    counter = 0
    while True:
        drawn = hmac.digest(secret, f"{use}/{index}/{counter}".encode(), "sha256")
        word = int.from_bytes(drawn[:8], "big")
        if word < WORDS - WORDS % bound:
            return word % bound
        counter += 1


def derive_seed(seed: int, *use: str | int) -> int:
    """The 63-bit seed of one use, such as `derive_seed(0, "order", epoch)`; different uses are independent."""
    content = "/".join(map(str, (seed, *use)))
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, *use: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` for one use of `seed`."""
    import torch  # so that whoever looks at a sweep does not wait for it

    return torch.Generator(device).manual_seed(derive_seed(seed, *use))
