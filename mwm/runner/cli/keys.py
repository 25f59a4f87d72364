"""commit, open and export: what an owner does with a key before and after its network is released."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mwm.config.loader import apply_override
from mwm.config.spec import decode
from mwm.data.datasets import ArrayData, Dataset, DatasetSpec
from mwm.data.readers import load_dataset as load_data
from mwm.runner.cli.options import Storage, find_digest, make_console
from mwm.runner.workspace.location import StorageLocation
from mwm.storage.object_store import as_storage_error
from mwm.storage.store import Store
from mwm.trials.key_export import export_files, proof_of, require_marked, write_keys
from mwm.trials.outcome import Outcome
from mwm.watermarks.key import Key, load_key, verify_derivation
from mwm.watermarks.key import commitment as own_commitment
from mwm.watermarks.proof import read_proof, require_proven

GUESSABLE_NOTE = (
    "note: this secret follows from the seed of a sweep: whoever guesses the seed has the key, and can remove it.",
    "For a release, before training: `openssl rand -hex 32 > FILE`, and `secret: FILE` under `victim`.",
)

UNKNOWN_NOTE = (
    "note: nothing beside this key says whether its network proves it; `export` and the entry of a store do.",
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
    force: Annotated[bool, Parameter(help="Commit also to a key that its own network does not prove.")] = False,
) -> int:
    """Show the commitment to a key, to publish before the network.

    It stands on a line of its own. A key that its own network does not prove, as the folder tells, is refused.
    """
    held = load_key(key)
    proof = None if force else proof_of(key, held)
    if not force:
        require_proven(held, proof, name=f"KEY: {key}", override="--force")
    digits, told = own_commitment(held), f"; {proof.told}" if proof else ""
    lines = [f"{key}: {_described(held)}{told}; its commitment, to publish before the network is:", digits]
    lines += GUESSABLE_NOTE if held.guessable else ()
    lines += UNKNOWN_NOTE if proof is None and not force else ()
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
    trust: Annotated[
        bool, Parameter(help="With --recompute: run the code of the function that data are from.")
    ] = False,
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
        verify_derivation(held, _data(held, changes or (), trust=trust))
    found = own_commitment(held)
    opens = found == commitment.lower()
    verdict = "opens the commitment" if opens else f"does not open the commitment: its own is {found}"
    source = "; all of it comes out of its data again" * recompute
    make_console().out(f"{key}: {_described(held)}; {verdict}{source}", highlight=False)
    return 0 if opens else 3


def export(
    beginning: Annotated[str, Parameter(name="DIGEST", help="The victim's, as in results.csv; 8 digits or more.")],
    folder: Annotated[Path, Parameter(name="FOLDER", help="A new folder, which only its owner can enter.")],
    /,
    *,
    force: Annotated[bool, Parameter(help="Copy also a key that its own network does not prove.")] = False,
    storage: Storage = ".",
) -> int:
    """Copy the key of a victim out of a store.

    The second key of a victim that carries two schemes goes into the folder `confusion` in it. Beside a key lies
    proof.json: what its network proves by it. A key that this network does not prove is refused.
    """
    store = Store(StorageLocation(storage).store)
    digest = as_storage_error(store.root, lambda: find_digest(beginning, store))
    outcome = as_storage_error(store.root, lambda: store.outcome(digest))
    if outcome is None:
        raise ValueError(f"DIGEST: {digest} is no finished victim of this store")
    if outcome["victim_digest"] != digest:
        raise ValueError(f"DIGEST: {digest} is an attack on {outcome['victim_digest']}: only a victim has a key")
    measured = Outcome(**outcome)
    if not force:
        require_marked(store, measured, name=f"DIGEST: {digest}", override="--force")
    files = export_files(store, measured)
    for place in write_keys(files, folder, name="FOLDER"):
        key = load_key(place)
        proof = read_proof(place, key)
        told = proof.told if proof else ""
        make_console().out(f"{place}: {_described(key)}; {told}; keep it secret", highlight=False)
    return 0


def _described(key: Key) -> str:
    """A key in a line. When it was made is the owner's own word: no commitment binds it, and only a stamp shows it."""
    dated = f"kept, by its own word, since {key.created}"
    return f"{len(key.queries)} queries, {key.classes} classes, scheme {key.scheme}, {dated}"


def _data(key: Key, changes: Sequence[str], *, trust: bool) -> Dataset:
    """The data set of a key, from where it lay or from where `changes` say: there it may be of another kind."""
    other = any(item.startswith("data.kind=") for item in changes)
    shown = {name: key.data[name] for name in ("flip", "pad")}
    tree = {"data": shown if other else dict(key.data)}
    for item in changes:
        if not item.startswith("data."):
            raise ValueError(f"--set {item}: is not allowed: only where the data lie, such as data.path=X")
        apply_override(tree, item)
    record = decode(DatasetSpec, tree["data"], "data")
    if isinstance(record, ArrayData):
        saved = "save them as a file, and name it by --set data.kind=npz --set data.path=X"
        raise ValueError(f"data: the arrays {record.digest} were in the memory of another process; {saved}")
    return load_data(record, trust=trust)


def _write(path: Path, content: bytes) -> None:
    """Write a new file: one that is there may be a key, or the request of a stamp that is still to be shown."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise ValueError(f"--request: {path} cannot be written ({error.strerror}); name a new file") from None
