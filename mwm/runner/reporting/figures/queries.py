"""The picture of a query set, before and after the perturbation of a step."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mwm.runner.reporting.figures.style import fitted
from mwm.storage.filesystem import write_atomic
from mwm.watermarks.queries import QuerySet

TILE, GAP, LABEL = 96, 8, 26
"""Pixels of the query picture: least width of an image, space around it, height of a line of its label."""

ROW = "mwm.row"
"""Under this name a picture says in how many pixels its rows follow each other: whoever shows a part cuts there."""


def draw_query_grid(queries: QuerySet, perturbed: Tensor, path: Path, *, class_names: Sequence[str] = ()) -> None:
    """Draw all queries with "true -> assigned" labels into a PNG, and beneath each what the ascent made of it.

    `perturbed`: the images after the ascent (uint8 n c h w), shown if any differs. Labels are named, one under the
    other, where classes have names.
    """
    from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

    assert perturbed.shape == queries.images.shape, f"{tuple(perturbed.shape)} for {tuple(queries.images.shape)}"
    moved = bool((queries.images != perturbed).any())
    height, width = queries.images.shape[2:]
    scale = -(-TILE // width)
    across, high = min(len(queries), 10), scale * height
    font, label = ImageFont.load_default(18), LABEL * (2 if class_names else 1)
    step = (scale * width + GAP, label + (high + GAP) * (1 + moved))
    sheet = Image.new("RGB", (across * step[0] + GAP, -(-len(queries) // across) * step[1] + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (truth, assigned) in enumerate(zip(queries.truth.tolist(), queries.labels.tolist(), strict=True)):
        left, top = GAP + i % across * step[0], GAP + i // across * step[1]
        named = [class_names[truth], f"-> {class_names[assigned]}"] if class_names else [f"{truth} -> {assigned}"]
        for line, text in enumerate(named):
            shown_text = fitted(text, font, step[0])
            pen.text((left + scale * width / 2, top + line * LABEL), shown_text, "black", font, "ma")
        for down, image in enumerate([queries.images[i], perturbed[i]][: 1 + moved]):
            colour = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous().numpy())
            shown = colour.resize((scale * width, high), Image.Resampling.NEAREST)
            sheet.paste(shown, (left, top + label + down * (high + GAP)))
    content, told = io.BytesIO(), PngImagePlugin.PngInfo()
    told.add_text(ROW, str(step[1]))
    sheet.save(content, "PNG", pnginfo=told)
    write_atomic(path, content.getvalue())
