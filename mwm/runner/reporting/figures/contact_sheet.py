"""A sheet of pictures of the data sets of a sweep, as a network sees them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mwm.data.datasets import Dataset
from mwm.runner.reporting.figures.style import fitted
from mwm.storage.filesystem import write_atomic

TILE, GAP, HEAD, NAME = 64, 4, 28, 240
"""Pixels: least width of an image, space around it, height of a title, width of a name."""
SHEET_CLASSES, SHEET_IMAGES = 100, 8
"""How many classes it shows at most, and how many images of each."""


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
