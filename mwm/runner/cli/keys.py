"""What an owner does with a key: publish its commitment, show that it opens one, take it out of a store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mwm.config.loader import apply_override
from mwm.config.spec import decode
from mwm.data.datasets import Dataset, DatasetSpec
from mwm.data.readers import load_dataset as load_data
from mwm.storage.filesystem import write_atomic
from mwm.storage.object_store import as_storage_error
from mwm.storage.store import Store
from mwm.watermarks.key import Key, commitment, load_key, verify_derivation

GUESSABLE_NOTE = (
    "note: this secret follows from the seed of a sweep: whoever guesses the seed has the key, and can remove it.",
    "For a release, before training: `openssl rand -hex 32 > FILE`, and `secret: FILE` under `victim`.",
)

IMPRINT, CERTIFICATE = "3039 020101 3031 300d 0609 608648016503040201 0500 0420", "0101ff"
"""A TimeStampReq (RFC 3161) in DER, around the 32 bytes of a SHA-256: version 1, its OID; certReq is true."""


def show_commitment(console: Console, folder: Path, request: Path | None) -> int:
    """Show the commitment to a key, on a line of its own, and on demand write the request that has it time-stamped."""
    key = load_key(folder)
    digits = commitment(key)
    lines = [f"{folder}: {_described(key)}; its commitment, to publish before the network is:", digits]
    lines += GUESSABLE_NOTE if key.guessable else ()
    if request is not None:
        _write(request, bytes.fromhex(IMPRINT + digits + CERTIFICATE))
        stamp = f"curl -H 'Content-Type: application/timestamp-query' --data-binary @{request} URL-OF-AN-AUTHORITY"
        lines.append(f"{request}: have it stamped (RFC 3161): {stamp} > {request.with_suffix('.tsr')}")
    for line in lines:
        console.out(line, highlight=False)
    return 0


def show_opened(
    console: Console, folder: Path, digits: str, *, again: bool = False, changes: Sequence[str] = ()
) -> int:
    """Show whether a key opens a commitment: 0 if it does, 1 if it is another key's.

    With `again`, the key is drawn again from its data set, with `changes` of where that lies. Raises ValueError for
    a key that was tampered with, or that does not come out of its data.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise ValueError(f"--commitment: {digits!r} is not allowed: must be 64 hexadecimal digits, as `commit` shows")
    if changes and not again:
        raise ValueError(f"--set {changes[0]}: is of no use without --recompute")
    key = load_key(folder)
    if again:
        verify_derivation(key, _data(key, changes))
    found = commitment(key)
    opens = found == digits.lower()
    verdict = "opens the commitment" if opens else f"does not open the commitment: its own is {found}"
    source = "; all of it comes out of its data again" * again
    console.out(f"{folder}: {_described(key)}; {verdict}{source}", highlight=False)
    return 0 if opens else 1


def export(console: Console, store: Store, *, digest: str, folder: Path) -> int:
    """Copy the key of a finished victim out of a store into a folder of its own, which only its owner can enter."""
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        raise ValueError(f"DIGEST: {digest!r} is not allowed: must be 16 hexadecimal digits, as in results.csv")
    outcome = as_storage_error(store.root, lambda: store.outcome(digest))
    if outcome is None:
        raise ValueError(f"DIGEST: {digest} is no finished victim of this store")
    if outcome["victim_digest"] != digest:
        raise ValueError(f"DIGEST: {digest} is an attack on {outcome['victim_digest']}: only a victim has a key")
    content = store.key(digest)
    try:
        folder.mkdir(mode=0o700, parents=True)
        for name, data in content.items():
            write_atomic(folder / name, data)
    except OSError as error:
        raise ValueError(f"FOLDER: {folder} cannot be made ({error.strerror}); name a new one") from None
    console.out(f"{folder}: {_described(load_key(folder))}; keep it secret", highlight=False)
    return 0


def _described(key: Key) -> str:
    """A key in a line. When it was made is the owner's own word: no commitment binds it, and only a stamp shows it."""
    dated = f"kept, by its own word, since {key.created}"
    return f"{len(key.queries)} queries, {key.classes} classes, scheme {key.scheme}, {dated}"


def _data(key: Key, changes: Sequence[str]) -> Dataset:
    """The data set of a key, from where it lay or from where `changes` say."""
    tree = {"data": dict(key.data)}
    for item in changes:
        if not item.startswith("data."):
            raise ValueError(f"--set {item}: is not allowed: only where the data lie, such as data.path=X")
        apply_override(tree, item)
    return load_data(decode(DatasetSpec, tree["data"], "data"))


def _write(path: Path, content: bytes) -> None:
    """Write a new file: one that is there may be a key, or the request of a stamp that is still to be shown."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise ValueError(f"--request: {path} cannot be written ({error.strerror}); name a new file") from None
