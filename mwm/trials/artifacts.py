"""What a trial leaves in the store beside its network: a victim's key, and its queries as they were last perturbed."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from mwm.storage.sealed import unseal
from mwm.storage.store import KEY, PERTURBED, QUERIES, SECOND, Store
from mwm.watermarks.key import Key, load_key, to_files
from mwm.watermarks.queries import QuerySet, unpack

FOLDERS = ("", f"{SECOND}/")
"""Where the keys of a victim lie in its entry, the first and the second."""


def save_key(store: Store, digest: str, key: Key, *, perturbed: Tensor, second: Key | None = None) -> None:
    """Keep a key, a second one in a folder of its own, and the images of the first (n c h w in [0, 1]).

    The images are `perturbed` as the scheme's last step would show them. A key that is kept again, because something
    else of its entry was damaged, stays as old as it is, and its classes keep the names that they have.
    """
    for one, folder in zip((key, second), FOLDERS, strict=True):
        if one is not None:
            kept = unseal(store.read(digest, folder + KEY) or b"")
            told = {"created": kept["created"], "class_names": tuple(kept.get("class_names", ()))} if kept else {}
            content = to_files(replace(one, **told))
            store.keep(digest, folder + QUERIES, content[QUERIES])
            # Not `keep`: what `commit` finds may be a duplicate's, a second older.
            store.write(digest, folder + KEY, content[KEY])
    store.keep(digest, PERTURBED, save({"images": (perturbed * 255).round().byte().cpu().contiguous()}))


def key_folders(store: Store, digest: str) -> list[str]:
    """Where the keys of a finished victim lie in its entry: one of `FOLDERS`, or both; ValueError if damaged."""
    sealed = store.sealed_files(digest)
    return [folder for folder in FOLDERS if not folder or folder + KEY in sealed]


def key_files(store: Store, digest: str, folder: str = "") -> dict[str, bytes]:
    """The files of a key of a finished victim; ValueError if they are damaged, or there are none."""
    return {name: store.kept(digest, folder + name) for name in (KEY, QUERIES)}


def load_stored_key(store: Store, digest: str, folder: str = "") -> Key:
    """A key of a finished victim; ValueError if it is damaged."""
    with tempfile.TemporaryDirectory(prefix="mwm-key-") as place:
        for name, content in key_files(store, digest, folder).items():
            Path(place, name).write_bytes(content)
        return load_key(place)


def class_names(store: Store, digest: str) -> tuple[str, ...]:
    """What the classes of a finished victim are called, if they have names; ValueError if its key is damaged."""
    return tuple(unseal(store.kept(digest, KEY)).get("class_names", ()))


def query_set(store: Store, digest: str) -> QuerySet:
    """The query set of a finished victim, on the CPU, its second key beside; ValueError if anything is damaged."""
    first, *others = (unpack(store.kept(digest, folder + QUERIES)) for folder in key_folders(store, digest))
    return replace(first, second=others[0]) if others else first


def perturbed_images(store: Store, digest: str) -> Tensor:
    """The query images after the ascent (uint8, n c h w); ValueError if they are damaged."""
    return load(store.kept(digest, PERTURBED))["images"]
