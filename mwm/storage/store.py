"""Finished models, named by the digest of what made them, on any file system."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from mwm.storage.filesystem import open_filesystem
from mwm.storage.local import FileInfo, LocalFiles
from mwm.storage.sealed import seal, unseal

WEIGHTS, PERTURBED = "model.safetensors", "perturbed.safetensors"
KEY, QUERIES = "key.json", "queries.safetensors"
SECOND = "confusion"
"""The folder in an entry, or in an exported key, that is the second key of a network which carries two."""
KEY_FILES = (KEY, QUERIES, f"{SECOND}/{KEY}", f"{SECOND}/{QUERIES}")
CHECKPOINT, OUTCOME, LOCK = "checkpoint.bin", "outcome.json", ".lock"
SEALED_FILES = (WEIGHTS, *KEY_FILES, PERTURBED)
HASH_SIZE = hashlib.sha256().digest_size
NETWORK = "network"
"""Where a weights file says, as JSON, how to rebuild its network."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies under one digest; `finished` if there is an outcome, not verified; `modified` is a Unix time."""

    digest: str
    finished: bool
    bytes: int
    modified: float


class Store:
    """One folder per digest: weights, other named files and, last, the outcome with its hash and those of the files.

    `root` is a folder or a URI such as s3://BUCKET/PATH. What has an outcome is finished and never changes. A reader
    never sees half a file, and what is damaged is never used. Only safe formats are read: safetensors, JSON, tensors
    without code. A full disk or an unreachable service is an OSError, and leaves what was there.
    """

    def __init__(self, root: str | Path) -> None:
        self.files = open_filesystem(root)
        self.root = self.files.root
        self._hashes: dict[tuple[str, str], str] = {}

    @classmethod
    def of_folder(cls, folder: Path) -> Store | None:
        """The store on this machine in which a folder is an entry, by where it lies; None if it lies otherwise."""
        store = cls(folder.parent.parent)
        return store if store.folder(folder.name) == folder else None

    def folder(self, digest: str) -> Path:
        """Where the files of one digest lie, in a store on this machine."""
        assert isinstance(self.files, LocalFiles), "a remote store has no folders here"
        return self.files.path / _place(digest)

    def outcome(self, digest: str) -> dict[str, Any] | None:
        """What a finished trial measured; None when it is not finished, or anything of it is damaged."""
        for _ in range(2):  # a process with the same trial may just be replacing one file after the other
            content = self._entry(digest)
            if content is None:
                return None
            if content and all(self._sha256(digest, name) == value for name, value in content["files"].items()):
                self._drop_checkpoint(digest)
                return dict(content["outcome"])
        return None

    def rows(self, digest: str) -> list[dict[str, Any]]:
        """The epochs of a finished trial; ValueError if its entry is not finished, or damaged."""
        return list(self._sealed(digest)["rows"])

    def commit(self, digest: str, outcome: dict[str, Any], rows: Sequence[dict[str, Any]] = ()) -> None:
        """Seal an entry with what was measured, at the end and in each epoch: from now on `outcome` answers."""
        hashes = {name: self._hashes.get((digest, name)) or self._sha256(digest, name) for name in SEALED_FILES}
        found = {name: value for name, value in hashes.items() if value}
        self.write(digest, OUTCOME, seal({"outcome": outcome, "files": found, "rows": list(rows)}))
        for name in SEALED_FILES:
            self._hashes.pop((digest, name), None)
        self._drop_checkpoint(digest)

    def save_weights(self, digest: str, weights: dict[str, Tensor], architecture: dict[str, Any] | None = None) -> None:
        """Keep the weights of a network, and what is to be said of it to whoever rebuilds it.

        Layers may share weights: each has its own in the file.
        """
        whole = torch.contiguous_format
        plain = {name: value.detach().cpu().clone(memory_format=whole) for name, value in weights.items()}
        self.keep(digest, WEIGHTS, save(plain, {NETWORK: json.dumps(architecture)} if architecture else None))

    def weights(self, digest: str) -> dict[str, Tensor]:
        """The weights of a finished trial, on the CPU; ValueError if they are damaged."""
        return load(self.kept(digest, WEIGHTS))

    def keep(self, digest: str, name: str, data: bytes) -> None:
        """Write one file of an entry; `commit` seals it with the hash of what was written here."""
        self.write(digest, name, data)
        self._hashes[digest, name] = hashlib.sha256(data).hexdigest()

    def write(self, digest: str, name: str, data: bytes) -> None:
        """Write one file of an entry; `commit` seals it with the hash of what it then finds."""
        self.files.write(_place(digest, name), data, sync=True)

    def read(self, digest: str, name: str) -> bytes | None:
        """One file of an entry as it is, not verified; None if it is not there."""
        with _if_there():
            return self.files.read(_place(digest, name))
        return None

    def sealed_files(self, digest: str) -> list[str]:
        """The names of the files of a finished entry; ValueError if it is not finished, or damaged."""
        return list(self._sealed(digest)["files"])

    def kept(self, digest: str, name: str) -> bytes:
        """One file of a finished entry; ValueError if it is damaged, or was not there when the entry was sealed."""
        expected = self._sealed(digest)["files"].get(name)
        data = self.read(digest, name)
        if data is None or hashlib.sha256(data).hexdigest() != expected:
            raise ValueError(f"{self.files.display_name}/{_place(digest)}: {name} is missing or damaged")
        return data

    def save_checkpoint(self, digest: str, state: dict[str, Any]) -> None:
        """Keep the state of a training that is under way, behind its hash."""
        content = io.BytesIO()
        content.write(bytes(HASH_SIZE))
        torch.save(state, content)
        data = content.getbuffer()
        data[:HASH_SIZE] = hashlib.sha256(data[HASH_SIZE:]).digest()
        # No sync: it would cost more than many an epoch, and a power failure is noticed by the hash.
        self.files.write(_place(digest, CHECKPOINT), data)
        self.remove_stale(digest)

    def checkpoint(self, digest: str) -> dict[str, Any] | None:
        """The state from which a training goes on; None when there is none, or it is damaged and now removed."""
        self.remove_stale(digest)
        data = self.read(digest, CHECKPOINT)
        if data is None:
            return None
        try:
            content = memoryview(data)[HASH_SIZE:]
            if hashlib.sha256(content).digest() != data[:HASH_SIZE]:
                raise UnpicklingError("the hash is another one")
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError):
            self.files.remove(_place(digest, CHECKPOINT))
            return None
        return state

    def discard(self, digest: str) -> None:
        """Remove all that is unfinished or damaged under a digest; a finished entry stays."""
        if self.outcome(digest) is None:
            for name in (OUTCOME, CHECKPOINT, *SEALED_FILES):
                self.files.remove(_place(digest, name))
            self.remove_stale(digest)
            for folder in (SECOND, ""):
                self.files.remove_if_empty(_place(digest, folder).rstrip("/"))

    def remove_stale(self, digest: str) -> None:
        """Remove what dead processes have left half written under a digest."""
        for folder in (_place(digest), _place(digest, SECOND)):
            self.files.remove_stale(folder)

    def entries(self) -> Iterator[Entry]:
        """Everything in the store, finished or not, from one listing."""
        found: dict[str, list[FileInfo]] = {}
        for file in self.files.walk():
            if digest := _digest_of(file):
                found.setdefault(digest, []).append(file)
        for digest, held in found.items():
            inside = [file for file in held if not file.folder]
            modified = max(file.modified for file in inside or held)
            finished = any(file.name == _place(digest, OUTCOME) for file in inside)
            yield Entry(digest, finished, sum(file.bytes for file in inside), modified)

    def find(self, beginning: str) -> list[str]:
        """The digests of all finished entries that begin with these hexadecimal digits, two at least; not verified."""
        below = f"{beginning[:2]}/"
        found = {_digest_of(file) for file in self.files.walk(below) if file.name.endswith(f"/{OUTCOME}")}
        return sorted(digest for digest in found if digest.startswith(beginning))

    def leftovers(self) -> Iterator[tuple[str, FileInfo]]:
        """Files that are half written, and the checkpoints of finished entries, each with the digest it lies under."""
        found = {file.name: file for file in self.files.walk() if not file.folder}
        for place, file in found.items():
            digest = _digest_of(file)
            done = place == _place(digest, CHECKPOINT) and _place(digest, OUTCOME) in found
            locks = place == LOCK or place.startswith(f".{LOCK}.")
            if done or (place.rpartition("/")[2].startswith(".") and not locks):
                yield digest, file

    def remove(self, digest: str) -> None:
        """Take an entry away, its outcome first: half removed, it is as if it had never been finished."""
        self.files.remove(_place(digest, OUTCOME))
        self.files.remove_tree(_place(digest))

    def _drop_checkpoint(self, digest: str) -> None:
        """A finished entry has no checkpoint and no drafts; whoever may only read leaves them."""
        with suppress(OSError):
            self.files.remove(_place(digest, CHECKPOINT))
            self.remove_stale(digest)

    def _sha256(self, digest: str, name: str) -> str | None:
        with _if_there():
            return self.files.sha256(_place(digest, name))
        return None

    def _entry(self, digest: str) -> dict[str, Any] | None:
        """The content of a finished entry; empty if it is damaged, None if there is none."""
        data = self.read(digest, OUTCOME)
        return None if data is None else unseal(data)

    def _sealed(self, digest: str) -> dict[str, Any]:
        if content := self._entry(digest):
            return content
        raise ValueError(f"{self.files.display_name}/{_place(digest)}: {OUTCOME} is missing or damaged")


def _place(digest: str, *name: str) -> str:
    """Where an entry lies below the root of a store, or one of its files: no folder holds too many."""
    return "/".join((digest[:2], digest, *name))


def _digest_of(file: FileInfo) -> str:
    """The digest of the entry that a file or folder of a store is, or lies in; empty for what belongs to none."""
    shard, digest, inside = (*file.name.split("/", 2), "", "")[:3]
    return digest if len(shard) == 2 and digest.startswith(shard) and (inside or file.folder) else ""


@contextmanager
def _if_there() -> Iterator[None]:
    """Pass over a file that is missing, or that the disk cannot read; a service that is away is neither."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    except OSError as error:
        if error.errno != errno.EIO:
            raise
