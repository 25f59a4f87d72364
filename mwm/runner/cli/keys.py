"""commit, open and export: what an owner does with a key before and after its network is released."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mwm.config.loader import apply_override
from mwm.config.spec import decode
from mwm.data.datasets import Dataset, DatasetSpec
from mwm.data.readers import load_dataset as load_data
from mwm.runner.cli.options import Storage, make_console
from mwm.runner.workspace.location import StorageLocation
from mwm.storage.filesystem import write_atomic
from mwm.storage.object_store import as_storage_error
from mwm.storage.store import Store
from mwm.trials.artifacts import key_files, key_folders, load_stored_key
from mwm.watermarks.key import Key, load_key, verify_derivation
from mwm.watermarks.key import commitment as own_commitment

GUESSABLE_NOTE = (
    "note: this secret follows from the seed of a sweep: whoever guesses the seed has the key, and can remove it.",
    "For a release, before training: `openssl rand -hex 32 > FILE`, and `secret: FILE` under `victim`.",
)

IMPRINT, CERTIFICATE = "3039 020101 3031 300d 0609 608648016503040201 0500 0420", "0101ff"
"""A TimeStampReq (RFC 3161) in DER, around the 32 bytes of a SHA-256: version 1, its OID; certReq is true."""


KeyFolder = Annotated[Path, Parameter(name="KEY", help="Folder of key.json and queries.safetensors.")]


def commit(
    key: KeyFolder,
    /,
    *,
    request: Annotated[
        Path | None, Parameter(help="Write a request by which a time stamping authority stamps it (RFC 3161).")
    ] = None,
) -> int:
    """Show the commitment to a key, to publish before the network.

    It stands on a line of its own.
    """
    held = load_key(key)
    _refuse_control(f"KEY: {key}", held)
    digits = own_commitment(held)
    lines = [f"{key}: {_described(held)}; its commitment, to publish before the network is:", digits]
    lines += GUESSABLE_NOTE if held.guessable else ()
    if request is not None:
        _write(request, bytes.fromhex(IMPRINT + digits + CERTIFICATE))
        stamp = f"curl -H 'Content-Type: application/timestamp-query' --data-binary @{request} URL-OF-AN-AUTHORITY"
        lines.append(f"{request}: have it stamped (RFC 3161): {stamp} > {request.with_suffix('.tsr')}")
    for line in lines:
        make_console().out(line, highlight=False)
    return 0


def open_(
    key: KeyFolder,
    /,
    *,
    commitment: Annotated[str, Parameter(help="64 hexadecimal digits, as `commit` showed them.")],
    recompute: Annotated[bool, Parameter(help="Draw the key again from its secret and its data.")] = False,
    changes: Annotated[
        list[str] | None,
        Parameter(name="--set", help="With --recompute: where the data lie, as in data.path=X; repeatable."),
    ] = None,
) -> int:
    """Check a key against a commitment; exit status 3 if it is another key's.

    A key that was tampered with, or that does not come out of its data, is a mistake: exit status 2.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", commitment):
        raise ValueError(
            f"--commitment: {commitment!r} is not allowed: must be 64 hexadecimal digits, as `commit` shows"
        )
    if changes and not recompute:
        raise ValueError(f"--set {changes[0]}: is of no use without --recompute")
    held = load_key(key)
    if recompute:
        verify_derivation(held, _data(held, changes or ()))
    found = own_commitment(held)
    opens = found == commitment.lower()
    verdict = "opens the commitment" if opens else f"does not open the commitment: its own is {found}"
    source = "; all of it comes out of its data again" * recompute
    make_console().out(f"{key}: {_described(held)}; {verdict}{source}", highlight=False)
    return 0 if opens else 3


def export(
    digest: Annotated[str, Parameter(name="DIGEST", help="The victim's, as in results.csv.")],
    folder: Annotated[Path, Parameter(name="FOLDER", help="A new folder, which only its owner can enter.")],
    /,
    *,
    storage: Storage = ".",
) -> int:
    """Copy the key of a victim out of a store.

    The second key of a victim that carries two schemes goes into the folder `confusion` in it.
    """
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        raise ValueError(f"DIGEST: {digest!r} is not allowed: must be 16 hexadecimal digits, as in results.csv")
    store = Store(StorageLocation(storage).store)
    outcome = as_storage_error(store.root, lambda: store.outcome(digest))
    if outcome is None:
        raise ValueError(f"DIGEST: {digest} is no finished victim of this store")
    if outcome["victim_digest"] != digest:
        raise ValueError(f"DIGEST: {digest} is an attack on {outcome['victim_digest']}: only a victim has a key")
    _refuse_control(f"DIGEST: {digest}", load_stored_key(store, digest))
    keys = {folder / inner: key_files(store, digest, inner) for inner in key_folders(store, digest)}
    for place, content in keys.items():
        try:
            place.mkdir(mode=0o700, parents=True)
            for name, data in content.items():
                write_atomic(place / name, data)
        except OSError as error:
            raise ValueError(f"FOLDER: {place} cannot be made ({error.strerror}); name a new one") from None
        make_console().out(f"{place}: {_described(load_key(place))}; keep it secret", highlight=False)
    return 0


def _refuse_control(name: str, key: Key) -> None:
    """A control was never taught its key: whoever published it would claim what no network carries."""
    if key.scheme == "none":
        raise ValueError(f"{name} is the key of a control: a network of scheme none carries no watermark")


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
