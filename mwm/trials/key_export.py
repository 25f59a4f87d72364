"""Keys that are handed out of a store, each with what its own network proves by it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from mwm.storage.filesystem import write_atomic
from mwm.storage.store import OUTCOME, SECOND, Store
from mwm.trials.artifacts import FOLDERS, key_files, key_folders, load_stored_key
from mwm.trials.outcome import Outcome
from mwm.watermarks.key import Key, commitment
from mwm.watermarks.proof import PROOF, Proof, pack, read_proof, require_proven


def key_proofs(outcome: Outcome) -> dict[str, float | None]:
    """The log10 p of each key of a victim alone, by the folders of `FOLDERS`, on the network that was trained with it.

    None where no test is exact.
    """
    forms = outcome.log10_p_labels, outcome.log10_p_scores
    tested = [log for log in forms if log is not None]
    first = min(0.0, math.log10(len(tested)) + min(tested)) if len(tested) == len(forms) else None
    return dict(zip(FOLDERS, (first, outcome.second_log10_p), strict=True))


def export_files(store: Store, outcome: Outcome) -> dict[str, dict[str, bytes]]:
    """What is handed out of a finished victim: for each of its keys the files and its proof; ValueError if damaged."""
    digest, proofs = outcome.digest, key_proofs(outcome)
    found: dict[str, dict[str, bytes]] = {}
    for folder in key_folders(store, digest):
        key = load_stored_key(store, digest, folder)
        proof = Proof(key=commitment(key), network=digest, log10_p=proofs[folder])
        found[folder] = key_files(store, digest, folder) | {PROOF: pack(proof)}
    return found


def write_keys(files: Mapping[str, Mapping[str, bytes]], folder: Path, *, name: str) -> Iterator[Path]:
    """Write keys into a new folder that its owner alone can enter, and give where each lies.

    Raises ValueError, in one line after the `name` of the folder's option, if it is there or cannot be made.
    """
    for inner, content in files.items():
        place = folder / inner
        try:
            place.mkdir(mode=0o700, parents=True)
            for file, data in content.items():
                write_atomic(place / file, data)
        except OSError as error:
            made = f"{error.filename or folder} cannot be made ({error.strerror})"
            raise ValueError(f"{name}: {made}; name a new one") from None
        yield place


def proof_of(folder: Path, key: Key) -> Proof | None:
    """What the network of a key in a folder proves by it: a file beside it says that, or the entry of a store it is.

    None where nothing says it. ValueError if the file is damaged, or another key's.
    """
    place = folder.absolute()
    inner = f"{SECOND}/" if place.name == SECOND else ""
    entry = place.parent if inner else place
    store = Store.of_folder(entry) if (entry / OUTCOME).is_file() else None
    outcome = store.outcome(entry.name) if store is not None else None
    if outcome is None:
        return read_proof(folder, key)
    return Proof(key=commitment(key), network=entry.name, log10_p=key_proofs(Outcome(**outcome))[inner])


def require_marked(store: Store, outcome: Outcome, *, name: str, override: str | None) -> None:
    """Refuse to hand out the key of a finished victim whose network does not prove it; of two, both together.

    Raises ValueError; see `require_proven`.
    """
    key = load_stored_key(store, outcome.digest)
    decision = Proof(key=commitment(key), network=outcome.digest, log10_p=outcome.log10_p)
    require_proven(key, decision, name=name, override=override)
