"""What a suspect in a process of its own and the process that asks it say to each other: JSON, and bytes beside it.

No pickle: whoever writes one that is read runs code as its reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MAX_HEADER = 2**20
"""Bytes of the JSON of a message at most."""

Message = tuple[dict[str, Any], bytes]


def packed(header: dict[str, Any], content: bytes = b"") -> bytes:
    """A message: the lengths of its two parts, 8 bytes each, and the parts."""
    said = json.dumps(header).encode()
    return len(said).to_bytes(8) + len(content).to_bytes(8) + said + content


def receive(read: Callable[[int], bytes], longest: int) -> Message:
    """The next message; `read` gives the next so many bytes. ValueError for none, or for `longest` bytes exceeded."""
    sizes = read(16)
    said, content = int.from_bytes(sizes[:8]), int.from_bytes(sizes[8:])
    if said > MAX_HEADER or content > longest:
        raise ValueError(f"a message of {said} and {content} bytes is too long")
    header = json.loads(read(said))
    if not isinstance(header, dict):
        raise ValueError("a message is no object")
    return header, read(content)
