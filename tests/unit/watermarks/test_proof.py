"""What a network proves of its key, in a file beside it: read back, bound to its key, and refused where it is none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mwm.storage.sealed import seal, unseal
from mwm.watermarks.key import commitment
from mwm.watermarks.proof import CONTROL, PROOF, WITHOUT_PROOF, Proof, pack, read_proof, require_proven
from tests.helpers.keyed import drawn, pictures

KEY = drawn(pictures())
NETWORK = "0123456789abcdef"


def proof(log10_p: float | None) -> Proof:
    return Proof(key=commitment(KEY), network=NETWORK, log10_p=log10_p)


@pytest.mark.parametrize(
    ("log10_p", "proven", "told"),
    [
        (-26.04, True, "its network proves it: log10 p -26.0"),
        (math.log10(1e-3), True, "its network proves it: log10 p -3.0"),
        (-2.99, False, "its network does not prove it: log10 p -3.0"),
        (0.0, False, "its network does not prove it: log10 p 0.0"),
        (None, None, "no exact test says whether its network proves it"),
    ],
)
def test_a_proof_is_read_back_and_told(tmp_path: Path, log10_p: float | None, proven: bool | None, told: str) -> None:
    (tmp_path / PROOF).write_bytes(pack(proof(log10_p)))
    again = read_proof(tmp_path, KEY)
    assert again == proof(log10_p)
    assert (again.proven, again.told) == (proven, told)
    if proven is False:
        with pytest.raises(
            ValueError, match=rf"^mine {WITHOUT_PROOF}: log10 p is .*, and a proof is -3 or less; --force"
        ):
            require_proven(KEY, again, name="mine", override="--force")
    else:
        require_proven(KEY, again, name="mine", override="--force")


def test_nothing_is_known_without_the_file(tmp_path: Path) -> None:
    assert read_proof(tmp_path, KEY) is None
    require_proven(KEY, None, name="mine", override="--force")


@pytest.mark.parametrize("known", [None, proof(-9.0)])
def test_a_control_has_nothing_to_prove(known: Proof | None) -> None:
    with pytest.raises(ValueError, match=f"^mine {CONTROL}; force=True takes it"):
        require_proven(replace(KEY, scheme="none"), known, name="mine", override="force=True")


def test_a_proof_of_another_key_or_a_changed_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / PROOF
    path.write_bytes(pack(proof(-9.0)))
    with pytest.raises(ValueError, match=f"^{path}: is of another key than the one in {tmp_path}$"):
        read_proof(tmp_path, drawn(pictures(), num=11))
    content = unseal(pack(proof(-0.5)))
    path.write_bytes(pack(proof(-0.5)).replace(b"-0.5", b"-9.5"))
    with pytest.raises(ValueError, match="it does not match its own SHA-256"):
        read_proof(tmp_path, KEY)
    path.write_bytes(seal(content | {"log10_p": 0.5}))
    with pytest.raises(ValueError, match=rf"^{path}: log10_p: 0.5 is not allowed"):
        read_proof(tmp_path, KEY)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        read_proof(tmp_path, KEY)
