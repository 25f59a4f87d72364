"""Folders of files, one for each class: which are pictures, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from mwm.config.errors import shortened
from mwm.data.pictures import is_picture

SYSTEM_NAMES = {"$recycle.bin", "@eadir", "__macosx", "__pycache__", "desktop.ini", "ehthumbs.db", "thumbs.db"}
"""What systems leave in folders without a dot before its name."""


@dataclass
class Listing:
    """The pictures of one part, each with the name of its class, in order; and what is left out of the part.

    `classes` are in the order of their folders' names as text. So many pictures lie `deeper` than in the folder itself.
    """

    classes: list[str] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    deeper: int = 0
    hidden: int = 0
    no_pictures: list[str] = field(default_factory=list)
    unclassed: list[str] = field(default_factory=list)


def list_part(root: Path, part: str) -> Listing:
    """What lies in `root/part`; ValueError, in one line, for a part that is not a folder of each of several classes."""
    found, folders = Listing(), []
    for entry in scan(root / part) if (root / part).is_dir() else []:
        if is_hidden(entry.name):
            found.hidden += 1
        elif _is_folder(entry):
            folders.append(entry)
        else:
            found.unclassed.append(f"{part}/{readable(entry.name)}")
    if not folders:
        raise ValueError(_without_classes(root, part))
    for folder in folders:
        _list_class(folder, found, root)
    if len(folders) == 1:
        inside = [entry.name for entry in scan(folders[0].path) if _is_folder(entry)]
        hint = f", with the folders {shortened(inside)} in it: are the classes one level too deep?" if inside else ""
        raise ValueError(f"{root / part}: has 1 class, {folders[0].name}{hint}; allowed: 2 or more folders")
    return found


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that people do not see, or a system has left."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def scan(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; ValueError, in one line, if that cannot be told."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed ({error.strerror}); allowed: folders of images") from None


def _list_class(folder: os.DirEntry[str], found: Listing, root: Path) -> None:
    name, pictures, others = readable(folder.name), [], []
    # By folder, then by name, as torchvision lists them: who has used that has the same data.
    for where, entry in sorted(_walk(folder.path, found, ()), key=lambda pair: (pair[0], pair[1].name)):
        if is_picture(entry.name) and _is_file(entry):
            pictures.append((entry.path, name))
            found.deeper += where != folder.path
        else:
            others.append(readable(os.path.relpath(entry.path, root)))
    if not pictures:
        told = f" (but {shortened(others)})" if others else ""
        raise ValueError(f"{folder.path}: holds no picture{told}; allowed: one or more in the folder of a class")
    found.classes.append(name)
    found.files += pictures
    found.no_pictures += others


def _walk(folder: str, found: Listing, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below a folder, with the folder that it lies in; hidden ones are counted."""
    about = Path(folder).stat()
    own = (about.st_dev, about.st_ino)
    if own in above:
        raise ValueError(f"{folder}: is a link to a folder that it lies in; allowed: folders without circles")
    for entry in scan(folder):
        if is_hidden(entry.name):
            found.hidden += 1
        elif _is_folder(entry):
            yield from _walk(entry.path, found, (*above, own))
        else:
            yield folder, entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether something can be read as a file, or is a link that leads nowhere, which reading it tells."""
    try:
        return entry.is_file() or not Path(entry.path).exists()
    except OSError:
        return True


def _without_classes(root: Path, part: str) -> str:
    """What is wrong where a part has no classes, and what there is instead."""
    place = next((one for one in (root / part, root) if one.is_dir()), None)
    inside = [entry for entry in scan(place) if _is_folder(entry) and not is_hidden(entry.name)] if place else []
    fault = f"{root}: no folder of a class in {part}/; allowed: images in {root}/train/CLASS and {root}/test/CLASS"
    if close := next((entry.path for entry in inside if Path(entry.path, "train").is_dir()), None):
        return f"{fault} (did you mean root: {close}?)"
    names = shortened([entry.name for entry in inside], 5)
    return f"{fault} (in {place} there are the folders {names})" if names else f"{fault} ({place or 'root'} has none)"


def readable(name: str) -> str:
    """The name of a file or folder as text: composed, and with escapes in place of what cannot be printed."""
    text = normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
