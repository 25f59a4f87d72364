"""What the network of a key proves by it, as a file beside the key: who commits to a key should know."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from mwm.config.spec import Digest, Field, Strict, encode, spec
from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.storage.sealed import seal
from mwm.watermarks.key import Key, commitment, read_sealed

PROOF = "proof.json"
"""The file beside the files of a key. It belongs to no key: no commitment binds it, and nobody else needs it."""

CONTROL = "is the key of a control: a network of scheme none carries no watermark"


WITHOUT_PROOF = "is the key of a network that does not prove it"


@spec
class Proof:
    """What one network shows on one key.

    `key` is the commitment to the key, `network` the digest of the victim. `log10_p` is of the exact test of all that
    this network answers to this key alone; None where no test is exact for its labels.
    """

    key: Annotated[str, Strict(), Field(pattern=r"^[0-9a-f]{64}$")]
    network: Digest
    log10_p: Annotated[float, Field(le=0)] | None = None

    @property
    def proven(self) -> bool | None:
        """Whether the network proves the key at the usual level; None where no test is exact."""
        return None if self.log10_p is None else self.log10_p <= math.log10(DEFAULT_LEVEL)

    @property
    def told(self) -> str:
        """The proof in words, as the end of a sentence on the key."""
        if self.log10_p is None:
            return "no exact test says whether its network proves it"
        return f"its network {'proves' if self.proven else 'does not prove'} it: log10 p {self.log10_p + 0.0:.1f}"


def pack(proof: Proof) -> bytes:
    """A proof as the content of its file."""
    return seal(encode(proof))


def read_proof(folder: Path, key: Key) -> Proof | None:
    """The proof beside a key; None if there is none. ValueError, in one line, if it is damaged, or another key's."""
    path = folder / PROOF
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    proof: Proof = read_sealed(Proof, path, raw)
    if proof.key != commitment(key):
        raise ValueError(f"{path}: is of another key than the one in {folder}")
    return proof


def require_proven(key: Key, proof: Proof | None, *, name: str, override: str | None) -> None:
    """Refuse a key that no network carries, by the `name` that the user gave; without a proof nothing is known.

    Raises ValueError that names the option which hands it out all the same, `override`, if there is one.
    """
    anyway = f"; {override} takes it all the same" if override else ""
    if key.scheme == "none":
        raise ValueError(f"{name} {CONTROL}{anyway}")
    if proof is not None and proof.proven is False:
        told = f"log10 p is {proof.log10_p:.1f}, and a proof is {math.log10(DEFAULT_LEVEL):g} or less"
        raise ValueError(f"{name} {WITHOUT_PROOF}: {told}{anyway}")
