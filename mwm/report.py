"""Results of a sweep as files: for a spreadsheet, for a program, and pictures for a person."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mwm import retention
from mwm.progress import KINDS, STATUSES
from mwm.queries import QuerySet
from mwm.results import COLUMNS, Result, rows
from mwm.retention import Point, headline, points
from mwm.settings import Members, Setting, by_scheme, convicted, grouped, measured, moments, stolen_of
from mwm.store import put
from mwm.trial import LEVELS

GROUPED = ("clean_acc", "query_acc", "clean_drop", "agreement", "log10_p", *LEVELS)
TILE, GAP, LABEL = 96, 8, 26
"""Pixels of the query picture: least width of an image, space around it, height of its label."""


def write(folder: Path, sweep: str, results: Sequence[Result], *, seconds: float, complete: bool) -> None:
    """Write results.csv, summary.json and, where something was stolen, retention.csv, each replaced at once.

    `seconds` is the sweep's duration.
    """
    text, table = io.StringIO(), rows(sweep, results)
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    put(folder / "results.csv", text.getvalue())
    counts: Counter[tuple[str, str]] = Counter((row["kind"], row["status"]) for row in table)
    groups = grouped(results, table)
    found = points(groups)
    best = headline(found, stolen_of(groups))
    summary = {
        "sweep": sweep,
        "complete": complete,
        "seconds": seconds,
        **{f"{kind}s": {status: counts[kind, status] for status in STATUSES} for kind in KINDS},
        "table": [_entry(*settings, members) for settings, members in groups.items()],
        "convictions": [
            {"scheme": scheme, "attack": dict(attack), **convicted(members)}
            for (scheme, attack), members in by_scheme(groups).items()
        ],
        "headline": [
            {"victim": dict(victim), "points_lost": {str(most): _thief(point) for most, point in thieves.items()}}
            for victim, thieves in best.items()
        ],
    }
    put(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    if found:
        retention.write(found, folder / "retention.csv")


def picture(folder: Path, results: Sequence[Result]) -> None:
    """Draw the retention of a sweep's watermarks into retention.png, where something was stolen."""
    if found := points(grouped(results, rows("", results))):
        retention.draw(found, folder / "retention.png")


def _entry(victim: Setting, attack: Setting | None, members: Members) -> dict[str, Any]:
    entry: dict[str, Any] = {"victim": dict(victim), "attack": None if attack is None else dict(attack)}
    entry |= {status: sum(row["status"] == status for row in members) for status in STATUSES}
    return entry | {name: moments(measured(members, name)) for name in GROUPED}


def _thief(point: Point | None) -> dict[str, Any] | None:
    """The thief of a headline, and what it left."""
    if point is None or point.lost is None:
        return None
    told = {"students": point.students, "query_acc": point.query_acc.value, "points_lost": 100 * point.lost}
    return told | {"attack": dict(point.attack), "budget": point.budget}


def query_picture(queries: QuerySet, perturbed: Tensor, path: Path) -> None:
    """Draw all queries with "true -> assigned" labels into a PNG, and beneath each what the ascent made of it.

    `perturbed`: the images after the ascent (uint8 n c h w), shown if any differs.
    """
    from PIL import Image, ImageDraw

    assert perturbed.shape == queries.images.shape, f"{tuple(perturbed.shape)} for {tuple(queries.images.shape)}"
    moved = bool((queries.images != perturbed).any())
    height, width = queries.images.shape[2:]
    scale = -(-TILE // width)
    across, high = min(len(queries), 10), scale * height
    step = (scale * width + GAP, LABEL + (high + GAP) * (1 + moved))
    sheet = Image.new("RGB", (across * step[0] + GAP, -(-len(queries) // across) * step[1] + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (truth, assigned) in enumerate(zip(queries.truth.tolist(), queries.labels.tolist(), strict=True)):
        left, top = GAP + i % across * step[0], GAP + i // across * step[1]
        pen.text((left + scale * width / 2, top), f"{truth} -> {assigned}", "black", anchor="ma", font_size=18)
        for down, image in enumerate([queries.images[i], perturbed[i]][: 1 + moved]):
            colour = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous().numpy())
            shown = colour.resize((scale * width, high), Image.Resampling.NEAREST)
            sheet.paste(shown, (left, top + LABEL + down * (high + GAP)))
    content = io.BytesIO()
    sheet.save(content, "PNG")
    put(path, content.getvalue())
