"""What the defaults make of folders of pictures: a watermark, or a word that there is none, by `check` and by `run`.

Folders are cut from archives of small photographs (x_train, y_train, x_test, y_test), the first that has enough
classes. Each sweep names its folder, a network and a scheme; all else is left out. Pictures are shown at 8 pixels, so
that all epochs of the default recipe can be waited for.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.bench import ROOT, machine, parser, publish, show
from tests.benchmarks.embedding import write_folder
from tests.helpers.launching import command, environment

FOLDERS = [(100, 2), (100, 5), (300, 3), (800, 20), (1500, 10), (5000, 10)]
"""Training pictures, and the classes that they are dealt to."""
SCHEMES = "margin", "confusion"
SIZE, WIDTH = 8, 8


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a user is told of one folder: by `check`, and in the end."""

    folder: str
    scheme: str
    check: str
    status: int
    marked: bool | None
    neg_log10_p: float | None

    @property
    def is_sound(self) -> bool:
        """Whether the victim is marked, or that it is not is said in words and by the exit status."""
        return self.marked is True if self.status == 0 else self.status in (2, 3)


def launched(verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of `launch.py`."""
    asked = command(verb, *words)
    return subprocess.run(asked, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)


def asked(folder: Path, scheme: str) -> Path:
    """A sweep of one victim that names a folder, a network and a scheme."""
    data = {"kind": "imagefolder", "root": str(folder), "size": SIZE}
    tree = {"data": data, "model": {"kind": "cnn", "width": WIDTH}, "scheme": scheme}
    path = folder / f"{scheme}.yaml"
    path.write_text(json.dumps({"name": f"{folder.name}-{scheme}", "victim": tree}))
    return path


def measured(folder: Path, scheme: str) -> Told:
    """One sweep, checked and run."""
    path, storage = asked(folder, scheme), folder / "work"
    checked = launched("check", str(path), "--storage", str(storage))
    doubts = [line for line in checked.stdout.splitlines() if line.startswith("warning")]
    done = launched("run", str(path), "--storage", str(storage), "--tracking-uri", f"sqlite:///{folder}/mlflow.db")
    row: dict[str, Any] = {}
    table = storage / "results" / f"{folder.name}-{scheme}" / "results.csv"
    if table.exists():
        with table.open(encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
    return Told(
        folder=folder.name,
        scheme=scheme,
        check="refused" if checked.returncode else f"{len(doubts)} warnings",
        status=done.returncode,
        marked={"True": True, "False": False}.get(row.get("marked", "")),
        neg_log10_p=-float(row["log10_p"]) if row.get("log10_p") else None,
    )


def cut(place: Path, archives: list[Path], pictures: int, classes: int) -> Path:
    """A folder from the first archive with so many classes, and so many pictures in each."""
    for archive in archives:
        with np.load(archive) as held:
            fewest = np.bincount(held["y_train"])[:classes]
        if len(fewest) == classes and min(fewest) >= pictures // classes:
            folder = place / f"{pictures}x{classes}"
            write_folder(folder, archive, pictures, classes)
            return folder
    raise ValueError(f"no archive has {pictures} pictures in {classes} classes")


def _shown(value: bool | float | None) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return f"{value:.3g}"


def main() -> int:
    """Measure and print; 1 if a victim without a watermark is passed over in silence."""
    command = parser(__doc__)
    command.add_argument("archives", type=Path, nargs=argparse.ONE_OR_MORE, metavar="FILE.npz")
    words = command.parse_args()
    here, found = machine(), []
    with tempfile.TemporaryDirectory() as work:
        for pictures, classes in FOLDERS:
            folder = cut(Path(work), words.archives, pictures, classes)
            for scheme in SCHEMES:
                found.append(measured(folder, scheme))
                print(found[-1], flush=True)
    lines = [
        [
            f"{one.folder}, {one.scheme}",
            one.check,
            *(_shown(value) for value in (one.marked, one.neg_log10_p, one.status)),
        ]
        for one in found
    ]
    show("folders under the defaults", ("folder", "check", "marked", "-log10 p", "status"), lines)
    publish(words.output, here, {"folders": [vars(one) for one in found]})
    return 0 if all(one.is_sound for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
