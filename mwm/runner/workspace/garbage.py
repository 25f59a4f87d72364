"""What no sweep needs any more."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import JOURNAL
from mwm.runner.workspace.location import RESULTS, STORE, TUNE
from mwm.runner.workspace.lock import LOCK
from mwm.runner.workspace.status import TABLE, list_sweeps

if TYPE_CHECKING:
    from mwm.storage.store import Store

DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")


@dataclass(frozen=True)
class Garbage:
    """Something that can go: where it is, its bytes, why, and how."""

    place: str
    size: int
    reason: str
    remove: Callable[[], object]


def garbage(storage: Path, store: Store, hours: float) -> Iterator[Garbage]:
    """What no sweep needs and nobody has written to for `hours`; to be asked while no sweep is running."""
    before, named = time.time() - 3600 * hours, referenced_digests(storage)
    for entry in store.entries():
        if entry.digest not in named and entry.modified < before:
            remove = partial(store.remove, entry.digest)
            yield Garbage(f"store entry {entry.digest}", entry.bytes, "no sweep refers to it", remove)
    yield from _left_in_store(store, named, before)
    yield from _left_in_results(storage, before)


def referenced_digests(storage: Path) -> set[str]:
    """The digests that any journal or table in results/ names; what else looks like a digest is taken for one.

    Raises ValueError when one of them cannot be read: what it names would look like garbage.
    """
    if not (storage / RESULTS).is_dir():
        raise ValueError(f"--storage: {storage} has no {RESULTS}/: nothing there tells what is needed of its store")
    named: set[str] = set()
    for name in (JOURNAL, TABLE):
        for path in (storage / RESULTS).glob(f"*/{name}"):
            try:
                with path.open("rb") as lines:
                    for line in lines:
                        named.update(found.decode() for found in DIGEST.findall(line))
            except OSError as error:
                raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    return named


def _left_in_store(store: Store, named: set[str], before: float) -> Iterator[Garbage]:
    for digest, file in store.leftovers():
        entry_stays = not digest or digest in named
        if entry_stays and file.modified < before:
            yield Garbage(f"{STORE}/{file.name}", file.bytes, "left behind", partial(store.files.remove, file.name))


def _left_in_results(storage: Path, before: float) -> Iterator[Garbage]:
    """Temporary files and heartbeats of drivers that were killed, and what Tune keeps while it runs."""
    for folder in list_sweeps(storage):
        for path in sorted(folder.iterdir()):
            temporary = path.name.startswith(".") and path.name != LOCK
            if path.is_file() and (temporary or path.name == HEARTBEAT) and path.stat().st_mtime < before:
                yield Garbage(str(path), path.stat().st_size, "left behind", path.unlink)
        if (tune := folder / TUNE).is_dir() and tune.stat().st_mtime < before:
            size = sum(path.lstat().st_size for path in tune.rglob("*"))
            yield Garbage(str(tune), size, "left behind", partial(shutil.rmtree, tune, ignore_errors=True))
