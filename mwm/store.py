"""Finished models on disk, named by the digest of what made them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mwm import queries
from mwm.queries import QuerySet

WEIGHTS, QUERIES, PERTURBED = "model.safetensors", "queries.safetensors", "perturbed.safetensors"
CHECKPOINT, OUTCOME = "checkpoint.bin", "outcome.json"


class Store:
    """One folder per digest: weights, queries and, written last, the outcome with the hashes of its files.

    What has an outcome is finished and never changes. Everything is written beside its place and moved there, so that a
    reader never sees half a file. Only safe formats are read: safetensors, JSON, tensors without code.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder(self, digest: str) -> Path:
        """Where the files of one digest lie."""
        return self.root / digest[:2] / digest

    def outcome(self, digest: str) -> dict[str, Any] | None:
        """What a finished trial measured; None when it is not finished, or its files are damaged."""
        folder = self.folder(digest)
        try:
            entry = json.loads((folder / OUTCOME).read_text())
            whole = all(_sha256(folder / name) == value for name, value in entry["files"].items())
            return dict(entry["outcome"]) if whole else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def rows(self, digest: str) -> list[dict[str, Any]]:
        """The epochs of a finished trial."""
        entry = json.loads((self.folder(digest) / OUTCOME).read_text())
        return list(entry["rows"])

    def discard(self, digest: str) -> None:
        """Remove what is unfinished."""
        if self.outcome(digest) is None:
            shutil.rmtree(self.folder(digest), ignore_errors=True)

    def finish(self, digest: str, outcome: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        """Seal an entry: from now on `outcome` answers, and the checkpoint is gone."""
        folder = self.folder(digest)
        folder.mkdir(parents=True, exist_ok=True)
        # By name: a search of the folder would find what another process is about to move into place.
        kept = [folder / name for name in (WEIGHTS, QUERIES, PERTURBED)]
        files = {path.name: _sha256(path) for path in kept if path.exists()}
        entry = json.dumps({"outcome": outcome, "rows": list(rows), "files": files}, indent=1)
        put(folder / OUTCOME, entry)
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def save_weights(self, digest: str, weights: dict[str, Tensor]) -> None:
        """Keep the weights of a network."""
        plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        _replace(self.folder(digest) / WEIGHTS, lambda path: save_file(plain, path))

    def weights(self, digest: str) -> dict[str, Tensor]:
        """The weights kept under a digest, on the CPU."""
        return load_file(self.folder(digest) / WEIGHTS)

    def save_queries(self, digest: str, asked: QuerySet, perturbed: Tensor) -> None:
        """Keep a query set, and its images (n c h w in [0, 1]) as the scheme's last step would show them."""
        _replace(self.folder(digest) / QUERIES, lambda path: queries.save(asked, path))
        images = {"images": (perturbed * 255).round().byte().cpu().contiguous()}
        _replace(self.folder(digest) / PERTURBED, lambda path: save_file(images, path))

    def queries(self, digest: str) -> QuerySet:
        """The query set kept under a digest, on the CPU."""
        return queries.load(self.folder(digest) / QUERIES)

    def perturbed(self, digest: str) -> Tensor:
        """The query images after the ascent (uint8, n c h w)."""
        return load_file(self.folder(digest) / PERTURBED)["images"]

    def save_checkpoint(self, digest: str, state: dict[str, Any]) -> None:
        """Keep the state of a training that is under way, behind its hash."""
        content = io.BytesIO()
        torch.save(state, content)
        put(self.folder(digest) / CHECKPOINT, hashlib.sha256(content.getbuffer()).digest() + content.getvalue())

    def checkpoint(self, digest: str) -> dict[str, Any] | None:
        """The state from which a training goes on; None when there is none, or it is damaged."""
        path = self.folder(digest) / CHECKPOINT
        if not path.exists():
            return None
        data = path.read_bytes()
        try:
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                raise UnpicklingError("the hash is another one")
            state: dict[str, Any] = torch.load(io.BytesIO(data[32:]), map_location="cpu", weights_only=True)
        except UnpicklingError:
            path.unlink(missing_ok=True)
            return None
        return state


def writable(folder: Path) -> None:
    """Make a folder of results; ValueError, in one line, when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put(folder / ".probe", "")
        (folder / ".probe").unlink()
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); name a folder you own"
        raise ValueError(f"--storage: {folder} {reason}") from None


def put(path: Path, content: str | bytes) -> None:
    """Write a file whole: whoever reads it meanwhile sees the old one."""
    data = content.encode() if isinstance(content, str) else content
    _replace(path, lambda beside: beside.write_bytes(data))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex}-{path.name}")  # a process number repeats on another machine
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
