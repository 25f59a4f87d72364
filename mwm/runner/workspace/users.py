"""Who uses a store: a small file in it for each folder of results, so that none loses what another needs."""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mwm.storage.filesystem import write_atomic

USERS, MARK = "users", ".id"
"""The folder of these files in a store, and the file in results/ by which that folder is known again."""

SLACK_SECONDS = 600.0
"""A copy of a store does not keep in which order its files were written: so much older is not older."""


@dataclass(frozen=True)
class StoreUser:
    """A folder of results whose sweeps use a store: its absolute path, the store's, on which machine, and its mark."""

    results: str
    store: str
    host: str
    id: str


def record_user(results: Path, store: Path) -> None:
    """Write down in a store that the sweeps in results/ use it; what stands there already is left. Raises OSError."""
    user = StoreUser(str(results.resolve()), str(store.resolve()), socket.gethostname(), _marked(results))
    name = hashlib.sha256(f"{user.results} {user.id}".encode(errors="surrogateescape")).hexdigest()[:16]
    path = store / USERS / f"{name}.json"
    if not path.exists():
        write_atomic(path, json.dumps(asdict(user)) + "\n")


def recorded_since(store: Path) -> float:
    """The Unix time since which a store knows its users; infinite where it knows none."""
    return min((path.stat().st_mtime for path in _records(store)), default=float("inf")) - SLACK_SECONDS


def other_users(results: Path, store: Path, gone: Sequence[str] = ()) -> list[Path]:
    """The other folders of results that use a store; those that the user calls `gone` are left out.

    Raises ValueError, in one line, when one of them cannot be found, or `gone` names none of them: what cannot be read
    is no proof that nothing is needed.
    """
    others = {path: _read(path) for path in _records(store)}
    own = str(results.resolve())
    known = {user.results for user in others.values()} - {own}
    for folder in gone:
        if folder not in known:
            there = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise ValueError(f"--forget: {folder} is no other folder that uses {store}; {there}")
    found: set[Path] = set()
    for user in others.values():
        if user.results in (own, *gone) or user.id == _mark(results).get("id") or _is_of_another_store(user, store):
            continue
        if _mark(Path(user.results)).get("id") != user.id:
            raise ValueError(
                f"--storage: {store} is used by {user.results} (on {user.host}), too, which cannot be read from here: "
                f"nothing is removed; clean where it can be, or if it is gone for good, add --forget {user.results}"
            )
        found.add(Path(user.results))
    return sorted(found)


def forget_users(store: Path, gone: Sequence[str]) -> None:
    """Take the records of folders that are gone out of a store."""
    for path in _records(store):
        if _read(path).results in gone:
            path.unlink(missing_ok=True)


def _records(store: Path) -> list[Path]:
    return sorted((store / USERS).glob("*.json"))


def _read(path: Path) -> StoreUser:
    try:
        return StoreUser(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError):
        raise ValueError(f"{path}: is damaged, so that somebody uses the store of whom nothing is known") from None


def _is_of_another_store(user: StoreUser, store: Path) -> bool:
    """Whether a record came here with a copy of the store that it is about, which lies elsewhere on this machine."""
    place = Path(user.store)
    return user.host == socket.gethostname() and place.is_dir() and not place.samefile(store)


def _marked(results: Path) -> str:
    """The mark of a folder, made if there is none; a copy of a folder gets another one."""
    mark = _mark(results)
    if not mark:
        mark = {"id": uuid.uuid4().hex, "path": str(results.resolve()), "inode": results.stat().st_ino}
        write_atomic(results / MARK, json.dumps(mark) + "\n")
    return str(mark["id"])


def _mark(results: Path) -> dict[str, Any]:
    """What the mark of a folder says; empty if there is none that can be read, or it was copied from another folder."""
    try:
        mark = json.loads((results / MARK).read_text(encoding="utf-8"))
        # A folder that was moved keeps its number, and one on a drive without such numbers its path.
        same = results.stat().st_ino == mark["inode"] or str(results.resolve()) == mark["path"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return mark if same else {}
