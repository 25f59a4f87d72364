"""Where the files of sweeps go: results on the driver's machine, networks there too or in an object store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import SWEEP_FILE
from mwm.runner.workspace.lock import holder, remove_lock
from mwm.runner.workspace.users import record_user
from mwm.storage.addresses import expand_home
from mwm.storage.filesystem import Files, open_filesystem, require_folder, require_writable, write_atomic
from mwm.storage.local import LocalFiles
from mwm.storage.object_store import as_storage_error

RESULTS, STORE = "results", "store"
"""The folders of a storage: one folder per sweep, and what its trials made."""
PICTURES, TUNE = "queries", "tune"
"""Folders in that of a sweep: pictures of its query sets, and what Ray Tune keeps while it runs."""


class StorageLocation:
    """What `--storage` names: a folder of results/ and store/, or a URI such as s3://BUCKET/PATH.

    Under a URI lie the store and a copy of the results; the driver works on results/ in its current folder.
    `local_root` is the folder of results/, `store` the root of the store, `remote` tells whether it lies under a URI,
    `local_store` is the folder of the store, None if it is none on this machine.
    """

    def __init__(self, place: str | Path) -> None:
        self._remote: Files | None = open_filesystem(place) if "://" in str(place) else None
        self.local_root = Path() if self._remote else expand_home(place)
        self.results = self.local_root / RESULTS
        self.store = _below(str(place), STORE) if self._remote else str(self.local_root / STORE)
        files = self._remote or LocalFiles(self.local_root)
        self.local_store = files.path / STORE if isinstance(files, LocalFiles) else None
        self.remote = self._remote is not None
        self.display_name = self._remote.display_name if self._remote else str(place)
        self._sent: dict[str, tuple[int, int]] = {}

    def prepare_sweep_dir(self, name: str) -> Path:
        """The folder of a sweep, as new as its copy. Raises ValueError where nothing can be written."""
        folder = self.results / name
        for place in (self.store, folder):
            require_writable(place)
        for place in (self.store, self.results, folder, folder / PICTURES):  # the dead may have been writing there
            open_filesystem(place).remove_stale("")
        self.download(name)
        return folder

    def record_user(self) -> None:
        """Write down in the store that the sweeps in results/ use it; ValueError where that cannot be written."""
        if self.local_store is not None:
            try:
                record_user(self.results, self.local_store)
            except OSError as error:
                raise ValueError(f"--storage: {self.local_store} cannot be written ({error.strerror})") from None

    @contextmanager
    def sweep_dir(self, name: str) -> Iterator[Path]:
        """The folder of a sweep, prepared; what was made for one that has not begun in the end goes again."""
        folder = self.results / name
        places = folder, self.results, Path(self.store), self.local_root, *self.local_root.parents
        made = [place for place in places if not _may_be_there(place)]
        try:
            yield self.prepare_sweep_dir(name)
        finally:
            if not _may_be_there(folder / SWEEP_FILE):
                for place in {folder, self.results, Path(self.store)}.intersection([folder, *made]):
                    remove_lock(place)
            for place in made:
                with suppress(OSError):  # it is none on this machine, or holds something by now
                    place.rmdir()

    def download(self, name: str = "") -> None:
        """Bring here what the copy has of a sweep, or of all, and is newer than what is here.

        A sweep that is being worked on here is left alone. Raises ValueError when the copy, or what is here, cannot be
        read.
        """
        require_folder(self.results)
        if (remote := self._remote) is not None:
            as_storage_error(remote.root, lambda: self._fetch(remote, f"{RESULTS}/{name}/" if name else f"{RESULTS}/"))

    def _fetch(self, remote: Files, below: str) -> None:
        for file in remote.walk(below):
            path = self.local_root / file.name
            newer = not path.exists() or path.stat().st_mtime < file.modified
            if not file.folder and newer and holder(self.results / PurePath(file.name).parts[1]) is None:
                write_atomic(path, remote.read(file.name))
                os.utime(path, (file.modified, file.modified))

    def upload(self, folder: Path) -> None:
        """Bring to the copy what has changed in the folder of a sweep; raises OSError."""
        if self._remote is None:
            return
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            passing = inside.parts[0] in (TUNE, HEARTBEAT) or path.name.startswith(".")
            if not path.is_file() or passing:
                continue
            state = path.stat()
            stamp = state.st_size, state.st_mtime_ns
            if self._sent.get(str(inside)) != stamp:
                self._remote.write(f"{RESULTS}/{folder.name}/{inside.as_posix()}", path.read_bytes())
                self._sent[str(inside)] = stamp

    def is_outside(self, folder: Path) -> bool:
        """Whether its files stay when `folder` is deleted."""
        return self._remote is not None or not self.local_root.resolve().is_relative_to(folder)


def remove_tune(folder: Path) -> None:
    """Remove what Ray Tune keeps in the folder of a sweep, its pickles among it: nothing is ever read from there."""
    shutil.rmtree(folder / TUNE, ignore_errors=True)
    with suppress(OSError):  # it was a folder, and is gone
        (folder / TUNE).unlink()


def _may_be_there(path: Path) -> bool:
    """Whether something is there, or cannot be looked for."""
    try:
        return path.exists()
    except OSError:
        return True


def _below(uri: str, name: str) -> str:
    """A place below a URI, whose options stay where they are."""
    place, mark, options = uri.partition("?")
    return f"{place.rstrip('/')}/{name}{mark}{options}"
