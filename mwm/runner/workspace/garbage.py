"""What no sweep needs any more."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import JOURNAL
from mwm.runner.workspace.location import RESULTS, STORE, TUNE, remove_tune
from mwm.runner.workspace.lock import LOCK
from mwm.runner.workspace.status import TABLE, list_sweeps

if TYPE_CHECKING:
    from mwm.storage.store import Store

DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")


@dataclass(frozen=True)
class Garbage:
    """Something that no sweep needs: where it is, its bytes, why and how it goes; `spared` says why it stays for now.

    What is spared for a reason goes with an option, which that reason names.
    """

    place: str
    size: int
    reason: str
    remove: Callable[[], object]
    spared: str = ""


@dataclass(frozen=True, kw_only=True)
class Sparing:
    """What is spared: what was written to in the last so many `hours`, keys of a secret, and what others may need.

    `others` are further folders of results that use the store. Before the Unix time `since` nobody wrote down who does.
    """

    hours: float = 24.0
    secret_keys: bool = True
    others: Sequence[Path] = ()
    since: float = -math.inf

    def young(self, modified: float) -> str:
        """Why something of that age is spared; empty if it is not."""
        fresh = modified >= time.time() - 3600 * self.hours
        return f"written to in the last {self.hours:g} hours: --older-than HOURS" if fresh else ""

    def reason(self, modified: float, key: bytes | None) -> str:
        """Why an entry of a store is spared that no sweep needs; empty if it is not. `key` is its key.json."""
        if young := self.young(modified):
            return young
        if modified < self.since:
            return "older than the list of who uses the store: --sole-user, if no other folder does"
        if key is not None and self.secret_keys and not _is_guessable(key):
            return "with the key of a secret, and a lost key is a lost proof: --keys"
        return ""


def garbage(storage: Path, store: Store, sparing: Sparing) -> Iterator[Garbage]:
    """What no sweep needs, spared or not; to be asked while no sweep is running.

    Raises ValueError when what names the needed cannot be read: nothing is garbage then.
    """
    from mwm.storage.store import KEY

    named = referenced_digests(storage).union(*map(_named_in, sparing.others))
    for entry in store.entries():
        if entry.digest not in named:
            key = store.read(entry.digest, KEY)
            reason = "no sweep needs it" + ("" if key is None else "; holds the key of a victim")
            place, remove = f"{STORE}/{entry.digest[:2]}/{entry.digest}", partial(store.remove, entry.digest)
            yield Garbage(place, entry.bytes, reason, remove, sparing.reason(entry.modified, key))
    yield from _left_in_store(store, named, sparing)
    yield from _left_in_results(storage, sparing)


def _is_guessable(key: bytes) -> bool:
    """Whether a key says that it follows from a sweep's seed, and so can be had again; a damaged one does not."""
    try:
        return json.loads(key)["guessable"] is True
    except (ValueError, TypeError, KeyError):
        return False


def referenced_digests(storage: Path) -> set[str]:
    """The digests that any journal or table in results/ names; what else looks like a digest is taken for one.

    Raises ValueError when one of them cannot be read: what it names would look like garbage.
    """
    if not (storage / RESULTS).is_dir():
        raise ValueError(f"--storage: {storage} has no {RESULTS}/: nothing there tells what is needed of its store")
    return _named_in(storage / RESULTS)


def _named_in(results: Path) -> set[str]:
    named: set[str] = set()
    path = results
    try:
        for folder in results.iterdir():
            for path in (folder / JOURNAL, folder / TABLE):
                with suppress(FileNotFoundError, NotADirectoryError), path.open("rb") as lines:
                    for line in lines:
                        named.update(found.decode() for found in DIGEST.findall(line))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    return named


def _left_in_store(store: Store, named: set[str], sparing: Sparing) -> Iterator[Garbage]:
    for digest, file in store.leftovers():
        if not digest or digest in named:
            remove = partial(store.files.remove, file.name)
            yield Garbage(f"{STORE}/{file.name}", file.bytes, "left behind", remove, sparing.young(file.modified))


def _left_in_results(storage: Path, sparing: Sparing) -> Iterator[Garbage]:
    """Temporary files and heartbeats of drivers that were killed, and what Tune keeps while it runs."""
    for folder in list_sweeps(storage):
        for path in sorted(folder.iterdir()):
            temporary = path.name.startswith(".") and path.name != LOCK
            if path.is_file() and (temporary or path.name == HEARTBEAT):
                state = path.stat()
                yield Garbage(str(path), state.st_size, "left behind", path.unlink, sparing.young(state.st_mtime))
        if (tune := folder / TUNE).is_dir():
            size = sum(path.lstat().st_size for path in tune.rglob("*"))
            yield Garbage(str(tune), size, "left behind", partial(remove_tune, folder))
