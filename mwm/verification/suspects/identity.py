"""Which suspect it is: the same one under another name has the same identity, another one at the same place has not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mwm.storage.local import sha256

ROUNDS = 200_000
"""Makes it slow to find a password by trying: an identity is shown."""

LENGTHS = {1: 8, 5: 4}
"""Bytes of the wire types of protobuf that have always the same."""

PARTS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 6: "graph", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Where a message of ONNX may have tensors, by the number of the field (onnx.proto, version 1.23)."""

EXTERNAL_DATA, KEY, VALUE = 13, 1, 2


def address_identity(*parts: str) -> str:
    """The identity of what is known by its address alone, with all that decides who answers there: 64 hex digits."""
    said = b"".join(len(part.encode()).to_bytes(8) + part.encode() for part in parts)
    return hashlib.pbkdf2_hmac("sha256", said, b"mwm-suspect", ROUNDS).hex()


def files_identity(*paths: Path) -> str:
    """The identity of what lies in files, wherever these are: the SHA-256 of one, or that of the sums of several."""
    sums = [sha256(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def folder_identity(folder: Path) -> str:
    """The identity of all files in a folder, by their names in it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256(folder / name)}  {name}\n" for name in names)
    return hashlib.sha256(sums.encode()).hexdigest()


def onnx_identity(path: Path) -> str:
    """The identity of a network in ONNX, with the files beside it in which it has weights."""
    folder = path.parent.resolve()
    beside = [path.parent / place for place in sorted(set(external_data_paths(path.read_bytes())))]
    return files_identity(path, *(one for one in beside if one.is_file() and one.resolve().is_relative_to(folder)))


def external_data_paths(model: bytes) -> Iterator[str]:
    """Where a file of ONNX, which has been read without a fault, says that it has weights outside."""
    rest = [("model", memoryview(model))]
    while rest:
        kind, message = rest.pop()
        for number, content in _fields(message):
            if kind == "tensor" and number == EXTERNAL_DATA:
                entry = {key: bytes(value) for key, value in _fields(content)}
                if entry.get(KEY) == b"location":
                    yield entry.get(VALUE, b"").decode(errors="surrogateescape")
            elif number in PARTS.get(kind, {}):
                rest.append((PARTS[kind][number], content))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message that have a length, with their numbers."""
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        if tag & 7 == 0:
            _, at = _number(message, at)
            continue
        size, at = _number(message, at) if tag & 7 == 2 else (LENGTHS[tag & 7], at)
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + size]
        at += size


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """The number of variable length that begins at a place, and where it ends."""
    value = shift = 0
    while True:
        value |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 128:
            return value, at
