"""A random generator for each use, derived from a seed: no global state, nothing to save, the same on every resume."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *use: str | int) -> int:
    """The 63-bit seed of one use, such as `derive(0, "order", epoch)`; different uses are independent."""
    content = "/".join(map(str, (seed, *use)))
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *use: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` for one use of `seed`."""
    return torch.Generator(device).manual_seed(derive(seed, *use))
