"""Pictures of query sets in a report: few, and of each the first rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mwm.runner.reporting.figures.queries import ROW
from mwm.runner.reporting.groups.configurations import Groups, victims_of
from mwm.runner.reporting.groups.names import victim_names

MOST, HIGH, MOST_BYTES = 4, 240, 400_000
"""How many pictures are shown, from how many pixels of height on no more rows are added, and how large one may be."""


@dataclass(frozen=True, kw_only=True)
class QueryPicture:
    """The first rows of the picture of a query set: as a data address, and the setting whose it is, in words."""

    source: str
    setting: str


def shown_victims(groups: Groups) -> dict[str, str]:
    """The victims whose queries are shown, by digest, with their names: the first one done of each kind of scheme.

    A key that does not follow from a seed, but from a secret of its owner's, is not shown: a report is to be sent.
    """
    named = victim_names(victims_of(groups))
    found: dict[str, tuple[str, str]] = {}
    for (victim, attack), members in groups.items():
        own = dict(victim)
        done = [row["digest"] for row in members if row["status"] == "done"]
        if attack is None and done and own["scheme.kind"] != "none" and own.get("secret") is None:
            found.setdefault(own["scheme.kind"], (done[0], named[victim]))
    return dict([*found.values()][:MOST])


def query_pictures(groups: Groups, files: Mapping[str, Path]) -> Iterator[QueryPicture]:
    """The pictures that are shown, of those that there are; one that is damaged or too large is left out."""
    for digest, setting in shown_victims(groups).items():
        content = _first_rows(files[digest]) if digest in files else b""
        if 0 < len(content) <= MOST_BYTES:
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            yield QueryPicture(source=source, setting=setting)


def _first_rows(path: Path) -> bytes:
    """The rows of a picture that fill so much height, as PNG; empty if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            row = int(image.info.get(ROW, image.height))
            part = image.crop((0, 0, image.width, min(image.height, row * -(-HIGH // row))))
    except (OSError, ValueError, ZeroDivisionError):
        return b""
    content = io.BytesIO()
    part.quantize(128).save(content, "PNG", optimize=True)
    return content.getvalue()
