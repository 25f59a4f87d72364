"""The command line in the process of a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Say = Callable[..., tuple[int, str, str]]
Ask = Callable[..., tuple[int, dict[str, Any]]]


def heard(say: Say, *words: str) -> str:
    status, out, err = say(*words)
    assert (status, err) == (0, "")
    return out


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def one_line(said: tuple[int, str, str], *words: str) -> None:
    status, out, err = said
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert all(word in err for word in words), err
