"""What was found in the data sets of a sweep, told to people: lines, warnings, and a sheet of pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mwm.data.datasets import Dataset, Findings, shortened
from mwm.data.summary import DatasetSummary, summarize
from mwm.runner.reporting.style import fitted
from mwm.storage.filesystem import write_atomic

CLASSES_SHOWN = 10
EQUAL_SHARE, SHARED_SHARE, DIM = 0.05, 0.01, 64
"""From when on images that are equal, or only dark, are warned of."""

TILE, GAP, HEAD, NAME = 64, 4, 28, 240
"""Pixels of the contact sheet: least width of an image, space around it, height of a title, width of a name."""
SHEET_CLASSES, SHEET_IMAGES = 100, 8
"""How many classes it shows at most, and how many images of each."""


def dataset_lines(path: str, kind: str, dataset: Dataset) -> Iterator[str]:
    """What a data set holds, and what its files are; then warnings of what is suspicious. `path`: where it is named."""
    told, (channels, height, width) = summarize(dataset), dataset.shape
    images = f"{len(dataset.y_train)} training and {len(dataset.y_test)} test images, {channels}×{height}×{width}"
    yield f"{path}: {kind}, {images}"
    yield f"  classes: {_classes(dataset, told)}"
    if dataset.findings:
        yield f"  files: {_files(dataset.findings)}"
        yield from (f"  {line}" for line in left_out_lines(dataset.findings))
    yield f"  equal: {told.equal} training images to an earlier one, {told.shared} test images to a training image"
    yield from (f"warning: {path}: {fault}" for fault in _suspicions(dataset, told))


def left_out_lines(findings: Findings) -> Iterator[str]:
    """What of the files is no image of the data set, if anything."""
    parts = [f"{findings.hidden} hidden"] if findings.hidden else []
    for names, what in ((findings.no_pictures, "no pictures"), (findings.unclassed, "in no class")):
        if names:
            parts.append(f"{len(names)} {what} ({shortened(names)})")
    if parts:
        yield f"left out: {'; '.join(parts)}"


def _classes(dataset: Dataset, told: DatasetSummary) -> str:
    names = dataset.class_names or ("",) * dataset.classes
    shown = [
        f"{number} {name} {train}+{test}" if name else f"{number} {train}+{test}"
        for number, (name, train, test) in enumerate(zip(names, told.train, told.test, strict=True))
    ]
    ranges = f"; {min(told.train)} to {max(told.train)} training images in each"
    few = len(shown) <= CLASSES_SHOWN
    return f"{dataset.classes}, training+test: {shortened(shown, CLASSES_SHOWN)}{'' if few else ranges}"


def _files(found: Findings) -> str:
    (width, height), (wide, high) = found.smallest, found.largest
    parts = [f"{width}×{height} to {wide}×{high} pixels"]
    parts += [", ".join(f"{mode} {count}" for mode, count in found.modes.items())]
    parts += [f"white is {white:g} in {depth}" for depth, white in found.whites.items()]
    counted = {
        "turned by their orientation": found.turned,
        "transparent": found.composed,
        "the first of several frames": found.frames,
        "in folders within a class": found.deeper,
    }
    return "; ".join(parts + [f"{count} {what}" for what, count in counted.items() if count])


def _suspicions(dataset: Dataset, told: DatasetSummary) -> Iterator[str]:
    train, test = len(dataset.y_train), len(dataset.y_test)
    if told.equal >= EQUAL_SHARE * train:
        yield f"{told.equal / train:.0%} of the training images are equal to an earlier one"
    if told.shared >= SHARED_SHARE * test:
        yield f"{told.shared / test:.0%} of the test images are training images, too"
    if told.contradictory:
        yield f"{told.contradictory} images are equal to one of another class"
    if told.brightest < DIM:
        yield f"the brightest pixel is {told.brightest} of 255: was something scaled that should not have been?"
    names = dataset.class_names
    if dataset.findings and all(name.isdecimal() for name in names) and [*names] != sorted(names, key=int):
        place = next(n for n, name in enumerate(names) if int(name) != n)
        yield f"folders are sorted as text, so class {place} is the folder {names[place]}: write 01, 02 for this order"


def draw_contact_sheet(datasets: Sequence[tuple[str, Dataset]], path: Path) -> None:
    """Draw some training images of each class as a network sees them, with its number and name, into a PNG.

    The data sets stand one under another, each with its title.
    """
    from PIL import Image

    parts = [_sheet(title, dataset) for title, dataset in datasets]
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    content = io.BytesIO()
    whole.save(content, "PNG")
    write_atomic(path, content.getvalue())


def _sheet(title: str, dataset: Dataset) -> Any:
    """The picture of one data set: a line for each class."""
    from PIL import Image, ImageDraw, ImageFont

    font, scale = ImageFont.load_default(16), -(-TILE // dataset.shape[2])
    names = dataset.class_names or ("",) * dataset.classes
    texts = [fitted(f"{number} {name}", font, NAME) for number, name in enumerate(names[:SHEET_CLASSES])]
    high, wide = scale * dataset.shape[1] + GAP, scale * dataset.shape[2] + GAP
    left = int(max(font.getlength(text) for text in texts)) + 2 * GAP
    width = max(left + SHEET_IMAGES * wide, int(font.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, HEAD + len(texts) * high), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, HEAD / 2), title, "black", font, "lm")
    for number, text in enumerate(texts):
        top = HEAD + number * high
        pen.text((GAP, top + high / 2), text, "black", font, "lm")
        for column, row in enumerate(np.flatnonzero(dataset.y_train == number)[:SHEET_IMAGES]):
            image = np.broadcast_to(dataset.x_train[row], (3, *dataset.shape[1:])).transpose(1, 2, 0)
            colour = Image.fromarray(np.ascontiguousarray(image))
            shown = colour.resize((wide - GAP, high - GAP), Image.Resampling.NEAREST)
            sheet.paste(shown, (left + column * wide, top))
    return sheet
