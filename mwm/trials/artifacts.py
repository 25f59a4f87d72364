"""What a trial leaves in the store beside its network: a victim's key, and its queries as they were last perturbed."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from mwm.storage.sealed import unseal
from mwm.storage.store import KEY, PERTURBED, QUERIES, Store
from mwm.watermarks.key import Key, load_key, to_files
from mwm.watermarks.queries import QuerySet, unpack


def save_key(store: Store, digest: str, key: Key, *, perturbed: Tensor) -> None:
    """Keep a key, and its images (n c h w in [0, 1]) as the scheme's last step would show them.

    A key that is kept again, because something else of its entry was damaged, stays as old as it is.
    """
    created = unseal(store.read(digest, KEY) or b"").get("created", key.created)
    content = to_files(replace(key, created=created))
    store.keep(digest, QUERIES, content[QUERIES])
    store.write(digest, KEY, content[KEY])  # not `keep`: what `commit` finds may be a duplicate's, a second older
    store.keep(digest, PERTURBED, save({"images": (perturbed * 255).round().byte().cpu().contiguous()}))


def key_files(store: Store, digest: str) -> dict[str, bytes]:
    """The files of the key of a finished victim; ValueError if they are damaged, or there are none."""
    return {name: store.kept(digest, name) for name in (KEY, QUERIES)}


def load_stored_key(store: Store, digest: str) -> Key:
    """The key of a finished victim; ValueError if it is damaged."""
    with tempfile.TemporaryDirectory(prefix="mwm-key-") as folder:
        for name, content in key_files(store, digest).items():
            Path(folder, name).write_bytes(content)
        return load_key(folder)


def query_set(store: Store, digest: str) -> QuerySet:
    """The query set of a finished victim, on the CPU; ValueError if it is damaged."""
    return unpack(store.kept(digest, QUERIES))


def perturbed_images(store: Store, digest: str) -> Tensor:
    """The query images after the ascent (uint8, n c h w); ValueError if they are damaged."""
    return load(store.kept(digest, PERTURBED))["images"]
