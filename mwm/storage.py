"""Where the files of sweeps go: results on the driver's machine, networks there too or in an object store."""

from __future__ import annotations

import os
from pathlib import Path

from mwm import files
from mwm.files import Files, writable

RESULTS, STORE = "results", "store"


class Storage:
    """What `--storage` names: a folder of results/ and store/, or a URI such as s3://BUCKET/PATH.

    Under a URI lie the store and a copy of the results; the driver works on results/ in its current folder. `home` is
    the folder of results/, `store` the root of the store.
    """

    def __init__(self, place: str | Path) -> None:
        self._remote: Files | None = files.at(place) if "://" in str(place) else None
        self.home = Path() if self._remote else Path(place)
        self.results = self.home / RESULTS
        self.store = f"{str(place).rstrip('/')}/{STORE}" if self._remote else str(self.home / STORE)
        self.shown = self._remote.shown if self._remote else str(place)
        self._sent: dict[str, tuple[int, int]] = {}

    def prepare(self, name: str) -> Path:
        """The folder of a sweep, as new as its copy. Raises ValueError where nothing can be written."""
        folder = self.results / name
        for place in (self.store, folder):
            writable(place)
        for part in ("", "queries"):  # a driver that was killed may have been writing there
            files.at(folder).tidy(part)
        self.fetch(name)
        return folder

    def fetch(self, name: str = "") -> None:
        """Bring here what the copy has of a sweep, or of all, and is newer than what is here."""
        for file in self._remote.walk(f"{RESULTS}/{name}/" if name else f"{RESULTS}/") if self._remote else ():
            path = self.home / file.name
            if not file.folder and (not path.exists() or path.stat().st_mtime < file.modified):
                assert self._remote is not None, "only a remote storage has a copy"
                files.put(path, self._remote.read(file.name))
                os.utime(path, (file.modified, file.modified))

    def copy(self, folder: Path) -> None:
        """Bring to the copy what has changed in the folder of a sweep; raises OSError."""
        for path in sorted(folder.rglob("*")) if self._remote else ():
            inside = path.relative_to(folder)
            if path.is_file() and inside.parts[0] != "tune" and not path.name.startswith("."):
                state = path.stat()
                stamp = state.st_size, state.st_mtime_ns
                if self._sent.get(str(inside)) != stamp:
                    assert self._remote is not None, "only a remote storage has a copy"
                    self._remote.write(f"{RESULTS}/{folder.name}/{inside.as_posix()}", path.read_bytes())
                    self._sent[str(inside)] = stamp

    def survives(self, folder: Path) -> bool:
        """Whether its files stay when `folder` is deleted."""
        return self._remote is not None or not self.home.resolve().is_relative_to(folder)
